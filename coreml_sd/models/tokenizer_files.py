"""The tokenizers of a diffusers folder: vocabulary, merges, and the ids that frame a prompt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.models.diffusers_folder import DiffusersFolder

VOCAB_NAME, MERGES_NAME = "vocab.json", "merges.txt"
_JOINED_NAME = "tokenizer.json"  # holds both, in folders saved by newer libraries
_FOLDER, _SECOND_FOLDER = "tokenizer", "tokenizer_2"
_START, _END = "<|startoftext|>", "<|endoftext|>"


def tokenizer_facts(
    folder: DiffusersFolder, max_tokens: int, part: str = _FOLDER
) -> dict[str, Any]:
    """Start, end and padding id of one tokenizer, and the length that prompts are padded to.

    Raises:
        UserError: files are missing, or the vocabulary lacks one of the special tokens.
    """
    vocabulary = _vocabulary(folder, part)
    config = folder.json_file(f"{part}/tokenizer_config.json")
    ids = {}
    for name, default in (("bos", _START), ("eos", _END), ("pad", _END)):
        token = _token_text(config.get(f"{name}_token"), default)
        if token not in vocabulary:
            raise UserError(f"{folder.path}/{part}: {name} token {token} is not in the vocabulary")
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
    text = json.dumps(_vocabulary(folder, _FOLDER), ensure_ascii=False)
    (destination / VOCAB_NAME).write_text(text, encoding="utf-8")
    lines = "\n".join(["#version: 0.2", *_merges(folder, _FOLDER)])
    (destination / MERGES_NAME).write_text(lines + "\n", encoding="utf-8")


def require_same_vocabulary(folder: DiffusersFolder) -> None:
    """Refuse a second tokenizer with words of its own: a bundle holds one vocabulary.

    Raises:
        UserError: the two differ.
    """
    for read in (_vocabulary, _merges):
        if read(folder, _FOLDER) != read(folder, _SECOND_FOLDER):
            raise UserError(
                f"{folder.path}: {_FOLDER} and {_SECOND_FOLDER} have different vocabularies; only "
                "models whose tokenizers differ in their padding alone are supported"
            )


def _vocabulary(folder: DiffusersFolder, part: str) -> dict[str, int]:
    if _has_both(folder.path / part):
        return folder.json_file(f"{part}/{VOCAB_NAME}")
    joined = _joined(folder, part)
    added = {entry["content"]: entry["id"] for entry in joined.get("added_tokens", ())}
    return {**joined["model"]["vocab"], **added}


def _merges(folder: DiffusersFolder, part: str) -> list[str]:
    """Pairs in their order, as lines."""
    if _has_both(folder.path / part):
        lines = (folder.path / part / MERGES_NAME).read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line and not line.startswith("#version")]
    merges = _joined(folder, part)["model"]["merges"]
    return [m if isinstance(m, str) else " ".join(m) for m in merges]


def _joined(folder: DiffusersFolder, part: str) -> dict[str, Any]:
    if not (folder.path / part / _JOINED_NAME).is_file():
        raise UserError(
            f"{folder.path}/{part}: no {VOCAB_NAME} with {MERGES_NAME}, and no {_JOINED_NAME}; "
            "give a complete diffusers folder"
        )
    joined = folder.json_file(f"{part}/{_JOINED_NAME}")
    if joined.get("model", {}).get("type") != "BPE":
        raise UserError(f"{folder.path}/{part}: not a CLIP (byte-pair) tokenizer")
    return joined


def _has_both(source: Path) -> bool:
    return (source / VOCAB_NAME).is_file() and (source / MERGES_NAME).is_file()


def _token_text(entry: Any, default: str) -> str:
    """A token is written as text or as an object with its content."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return str(entry) if entry else default
