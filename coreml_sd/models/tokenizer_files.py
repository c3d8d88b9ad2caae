"""The tokenizer of a diffusers folder: vocabulary, merges, and the ids that frame a prompt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.models.diffusers_folder import DiffusersFolder

VOCAB_NAME, MERGES_NAME = "vocab.json", "merges.txt"
_JOINED_NAME = "tokenizer.json"  # holds both, in folders saved by newer libraries
_FOLDER = "tokenizer"
_START, _END = "<|startoftext|>", "<|endoftext|>"


def tokenizer_facts(folder: DiffusersFolder, max_tokens: int) -> dict[str, Any]:
    """Start, end and padding id, and the length that prompts are padded to.

    Raises:
        UserError: files are missing, or the vocabulary lacks one of the special tokens.
    """
    vocabulary = _vocabulary(folder)
    config = folder.json_file(f"{_FOLDER}/tokenizer_config.json")
    ids = {}
    for name, default in (("bos", _START), ("eos", _END), ("pad", _END)):
        token = _token_text(config.get(f"{name}_token"), default)
        if token not in vocabulary:
            raise UserError(
                f"{folder.path}/{_FOLDER}: {name} token {token} is not in the vocabulary"
            )
        ids[f"{name}_token_id"] = vocabulary[token]
    return ids | {"max_tokens": max_tokens}


def write_tokenizer_files(folder: DiffusersFolder, destination: Path) -> None:
    """Put `vocab.json` and `merges.txt` into `destination`.

    Raises:
        UserError: the folder has neither these nor a tokenizer.json.
    """
    source = folder.path / _FOLDER
    if _has_both(source):
        shutil.copyfile(source / VOCAB_NAME, destination / VOCAB_NAME)
        shutil.copyfile(source / MERGES_NAME, destination / MERGES_NAME)
        return
    model = _joined(folder)["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    text = json.dumps(_vocabulary(folder), ensure_ascii=False)
    (destination / VOCAB_NAME).write_text(text, encoding="utf-8")
    lines = "\n".join(["#version: 0.2", *merges])
    (destination / MERGES_NAME).write_text(lines + "\n", encoding="utf-8")


def _vocabulary(folder: DiffusersFolder) -> dict[str, int]:
    if _has_both(folder.path / _FOLDER):
        return folder.json_file(f"{_FOLDER}/{VOCAB_NAME}")
    joined = _joined(folder)
    added = {entry["content"]: entry["id"] for entry in joined.get("added_tokens", ())}
    return {**joined["model"]["vocab"], **added}


def _joined(folder: DiffusersFolder) -> dict[str, Any]:
    if not (folder.path / _FOLDER / _JOINED_NAME).is_file():
        raise UserError(
            f"{folder.path}/{_FOLDER}: no {VOCAB_NAME} with {MERGES_NAME}, and no {_JOINED_NAME}; "
            "give a complete diffusers folder"
        )
    joined = folder.json_file(f"{_FOLDER}/{_JOINED_NAME}")
    if joined.get("model", {}).get("type") != "BPE":
        raise UserError(f"{folder.path}/{_FOLDER}: not a CLIP (byte-pair) tokenizer")
    return joined


def _has_both(source: Path) -> bool:
    return (source / VOCAB_NAME).is_file() and (source / MERGES_NAME).is_file()


def _token_text(entry: Any, default: str) -> str:
    """A token is written as text or as an object with its content."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return str(entry) if entry else default
