"""A CLIP-format byte-pair tokenizer (vocab.json, merges.txt) learnt from the captions."""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 77
VOCABULARY = 1536
_WORDS = (
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # CLIP's pre-tokenization rule
)


def _byte_symbols() -> list[str]:
    """The 256 printable stand-ins for bytes, in CLIP's order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + rank) for rank in range(len(others))]


def learn_merges(captions: list[str], count: int) -> list[tuple[str, str]]:
    """The first `count` byte-pair merges of the captions, word by word."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=count + 512, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges][:count]


def write_tokenizer(folder: Path, captions: list[str]) -> CLIPTokenizer:
    """Learn and save a tokenizer that transformers' CLIPTokenizer reads.

    One that is there already is kept: merges of equal frequency come in any order, and networks
    in training know the ids of the first.
    """
    if (folder / "vocab.json").exists():
        return CLIPTokenizer.from_pretrained(folder)
    folder.mkdir(parents=True, exist_ok=True)
    symbols = _byte_symbols()
    merges = learn_merges(captions, VOCABULARY - 2 * len(symbols) - 2)
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols)]
    tokens += ["".join(merge) for merge in merges] + [START, END]
    vocabulary = {token: rank for rank, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    return CLIPTokenizer.from_pretrained(folder)
