"""CLIP's tokenizer, which a single file does not hold and all of them use.

`clip_merges.txt.gz` are the merges of OpenAI's CLIP (MIT licence, Copyright 2021 OpenAI), one pair
a line; the vocabulary follows from them.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from coreml_sd.files.write_json import write_json
from coreml_sd.models.folder.tokenizer_files import MERGES_NAME, VOCAB_NAME

_MERGES = Path(__file__).parent / "clip_merges.txt.gz"
_START, _END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 77


def write_clip_tokenizer(folder: Path, padding: str) -> None:
    """Write a tokenizer's folder; `padding` is the token that short prompts are filled up with."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = _merges()
    vocabulary = {token: index for index, token in enumerate(_tokens(merges))}
    (folder / VOCAB_NAME).write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = "\n".join(["#version: 0.2", *merges, ""])
    (folder / MERGES_NAME).write_text(lines, encoding="utf-8")
    marks = {"bos_token": _START, "eos_token": _END, "unk_token": _END}
    plain = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {name: {"content": token, **plain} for name, token in marks.items()}
    write_json(folder / "special_tokens_map.json", {**special, "pad_token": padding})
    typed = {name: {"__type": "AddedToken", **token} for name, token in special.items()}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        **typed,
        "pad_token": padding,
    }
    write_json(folder / "tokenizer_config.json", config)


def _merges() -> list[str]:
    """Pairs in the order of their use."""
    return gzip.decompress(_MERGES.read_bytes()).decode("utf-8").splitlines()


def _tokens(merges: list[str]) -> list[str]:
    """In CLIP's order: bytes, bytes that end a word, merges, start and end."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    ends = [f"{symbol}</w>" for symbol in symbols]
    return [*symbols, *ends, *(pair.replace(" ", "") for pair in merges), _START, _END]
