"""The tokenizer of a diffusers folder: its two files and the ids that frame a prompt."""

from __future__ import annotations

from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.models.diffusers_folder import DiffusersFolder

VOCAB_NAME, MERGES_NAME = "vocab.json", "merges.txt"
_START, _END = "<|startoftext|>", "<|endoftext|>"


def tokenizer_facts(folder: DiffusersFolder, max_tokens: int) -> dict[str, Any]:
    """Start, end and padding id, and the length that prompts are padded to.

    Raises:
        UserError: a file is missing or lacks one of the special tokens.
    """
    vocabulary = folder.json_file(f"tokenizer/{VOCAB_NAME}")
    if not (folder.path / "tokenizer" / MERGES_NAME).is_file():
        raise UserError(f"{folder.path}/tokenizer: no {MERGES_NAME}; give a complete folder")
    config = folder.json_file("tokenizer/tokenizer_config.json")
    special = {
        name: _token_text(config.get(f"{name}_token"), default)
        for name, default in (("bos", _START), ("eos", _END), ("pad", _END))
    }
    for name, token in special.items():
        if token not in vocabulary:
            raise UserError(
                f"{folder.path}/tokenizer: {name} token {token} is not in the vocabulary"
            )
    return {f"{name}_token_id": vocabulary[token] for name, token in special.items()} | {
        "max_tokens": max_tokens
    }


def _token_text(entry: Any, default: str) -> str:
    """A token is written as text or as an object with its content."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return str(entry) if entry else default
