"""The tokenizers of a diffusers folder, as transformers loads them: special ids, words, merges."""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.files.foreign import read_table, read_text
from coreml_sd.files.limits import LIMITS
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder

VOCAB_NAME, MERGES_NAME = "vocab.json", "merges.txt"
START, END = "<|startoftext|>", "<|endoftext|>"
_JOINED_NAME = "tokenizer.json"  # holds vocabulary and merges, in folders saved by newer libraries
_CONFIG_NAME = "tokenizer_config.json"
_FOLDER, _SECOND_FOLDER = "tokenizer", "tokenizer_2"
_CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast")
# What some libraries write for any tokenizer; the class in model_index.json decides.
_GENERIC_CLASSES = ("PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend")
_LARGEST_LENGTH = 1 << 30  # transformers gives a larger one where the files say none
# Where files have ids: paths of keys to tables and lists of words.
_IDS: dict[str, tuple[tuple[str, ...], ...]] = {
    VOCAB_NAME: ((),),
    "added_tokens.json": ((),),
    _JOINED_NAME: (("model", "vocab"), ("added_tokens",)),
    _CONFIG_NAME: (("added_tokens_decoder",),),
}
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized")


def tokenizer_facts(
    folder: DiffusersFolder, max_tokens: int, part: str = _FOLDER
) -> dict[str, Any]:
    """The manifest's facts of one tokenizer: ids of start, end and padding, length, added words.

    `added_tokens` is left out where the marks of start and end and the padding are all there is
    and each is taken as it is written: `plain_words` gives those.

    Args:
        max_tokens: positions of the text encoder.

    Raises:
        UserError: files are missing or damaged, the tokenizer is no CLIP tokenizer, or diffusers
            would not fill its prompts up to `max_tokens`.
    """
    loaded = load_tokenizer(folder, part)
    _check_length(loaded, max_tokens)
    facts = {**loaded.special_ids, "max_tokens": max_tokens}
    # Whether a word is special makes no difference in a prompt.
    added = [{**word, "special": True} for word in loaded.added]
    if added == plain_words(loaded.words, facts):
        return facts
    return {**facts, "added_tokens": loaded.added}


def plain_words(vocabulary: dict[str, int], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Added words of a tokenizer whose facts list none: both marks, and the word of the padding,
    found wherever they are written.

    Raises:
        KeyError: the vocabulary lacks a mark.
    """
    pad = [word for word, id in vocabulary.items() if id == facts["pad_token_id"]]
    words = {word: vocabulary[word] for word in (START, END, *pad[:1])}
    found = sorted(words.items(), key=lambda entry: entry[1])
    return [_word(content, id, special=True) for content, id in found]


def write_tokenizer_files(folder: DiffusersFolder, destination: Path) -> None:
    """Put `vocab.json` and `merges.txt` of the loaded tokenizer into `destination`.

    The folder's own files are copied where they say the same.

    Raises:
        UserError: files are missing or damaged, or it is no CLIP tokenizer.
    """
    loaded = load_tokenizer(folder, _FOLDER)
    _load.cache_clear()  # a conversion needs it no more
    if _read_both(loaded.path) == (loaded.words, loaded.merges):
        for name in (VOCAB_NAME, MERGES_NAME):
            shutil.copyfile(loaded.path / name, destination / name)
        return
    text = json.dumps(loaded.words, ensure_ascii=False)
    (destination / VOCAB_NAME).write_text(text, encoding="utf-8")
    lines = "\n".join(["#version: 0.2", *loaded.merges])
    (destination / MERGES_NAME).write_text(lines + "\n", encoding="utf-8")


def tokenizer_bytes(folder: DiffusersFolder) -> int:
    """About what `write_tokenizer_files` will write; a joined file holds both and little else."""
    files = [folder.path / _FOLDER / name for name in (VOCAB_NAME, MERGES_NAME, _JOINED_NAME)]
    vocabulary, merges, joined = (f.stat().st_size if f.is_file() else 0 for f in files)
    return vocabulary + merges or joined


def require_same_vocabulary(folder: DiffusersFolder) -> None:
    """Refuse a second tokenizer with another vocabulary: a bundle holds one for both.

    Added words may differ.

    Raises:
        UserError: the two differ.
    """
    first, second = (load_tokenizer(folder, part) for part in (_FOLDER, _SECOND_FOLDER))
    if (first.vocabulary, first.merges) != (second.vocabulary, second.merges):
        raise UserError(
            f"{folder.path}: {_FOLDER} and {_SECOND_FOLDER} have different vocabularies; only "
            "models whose tokenizers differ in their padding and added words alone are supported"
        )


def require_embedding_rows(folder: DiffusersFolder, rows: int, part: str = _FOLDER) -> None:
    """Refuse a tokenizer with an id that its text encoder has no embedding for.

    Args:
        rows: of the text encoder's table of embeddings (`vocab_size`).

    Raises:
        UserError: names the word.
    """
    loaded = load_tokenizer(folder, part)
    words = loaded.vocabulary | {word["content"]: word["id"] for word in loaded.added}
    beyond = min(((id, word) for word, id in words.items() if id >= rows), default=None)
    if beyond:
        raise UserError(
            f"{loaded.path}: the word {beyond[1]!r} has id {beyond[0]}, but its text encoder has "
            f"{rows} embeddings; save the text encoder with the word's embedding, or take the word "
            "out of the tokenizer"
        )


@dataclass(frozen=True)
class LoadedTokenizer:
    """One tokenizer of a folder, loaded by transformers from all of its files."""

    path: Path
    tokenizer: Any

    @property
    def special_ids(self) -> dict[str, int]:
        """Ids of start, end and padding by the manifest's names."""
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        return {name: int(getattr(self.tokenizer, name)) for name in names}

    @cached_property
    def added(self) -> list[dict[str, Any]]:
        """Words that are found whole, in order of their ids, as the manifest holds them."""
        words = sorted(self.tokenizer.added_tokens_decoder.items())
        return [
            _word(word.content, id, word.special, {flag: getattr(word, flag) for flag in _FLAGS})
            for id, word in words
        ]

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Tokens of byte-pair encoding, without those that only were added, in order of ids."""
        if hasattr(self.tokenizer, "backend_tokenizer"):
            words = self.tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
        else:
            words = self.tokenizer.encoder
        return dict(sorted(words.items(), key=lambda entry: (entry[1], entry[0])))

    @property
    def words(self) -> dict[str, int]:
        """`vocabulary` with both marks, which some folders only add: what a bundle holds."""
        ids = self.special_ids
        return {**self.vocabulary, START: ids["bos_token_id"], END: ids["eos_token_id"]}

    @cached_property
    def merges(self) -> list[str]:
        """Pairs in their order, as lines of `merges.txt`."""
        if hasattr(self.tokenizer, "backend_tokenizer"):
            pairs = json.loads(self.tokenizer.backend_tokenizer.to_str())["model"]["merges"]
        else:
            pairs = list(self.tokenizer.bpe_ranks)
        return [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]


def load_tokenizer(folder: DiffusersFolder, part: str = _FOLDER) -> LoadedTokenizer:
    """Load one tokenizer as diffusers' pipeline does.

    Raises:
        UserError: files are missing or damaged, or it is no CLIP tokenizer.
    """
    _check_class(folder, part)
    _check_files(folder, part)
    path = folder.path / part
    files = [file for file in sorted(path.iterdir()) if file.is_file()]
    stamp = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    _check_ids(path, stamp)
    try:
        return _load(path, stamp)
    except Exception as error:  # the library raises nothing narrower for damaged files
        for file in files:
            if file.suffix == ".json" and not file.name.startswith("."):
                folder.json_file(f"{part}/{file.name}")
        reason = " ".join(str(error).split())
        names = ", ".join(file.name for file in files if not file.name.startswith("."))
        raise UserError(
            f"{path}: not a CLIP tokenizer that transformers can load ({reason}); restore {names}"
        ) from None


@functools.lru_cache(maxsize=2)
def _load(path: Path, _stamp: tuple[tuple[str, int, int], ...]) -> LoadedTokenizer:
    from transformers import CLIPTokenizer

    loaded = LoadedTokenizer(path, CLIPTokenizer.from_pretrained(str(path), local_files_only=True))
    _check_marks(loaded)
    return loaded


@functools.lru_cache(maxsize=4)
def _check_ids(path: Path, _stamp: tuple[tuple[str, int, int], ...]) -> None:
    """Refuse ids beyond the limit, up to the largest of which the library counts."""
    for name, places in _IDS.items():
        file = path / name
        if not file.is_file():
            continue
        table = read_table(file, any_number=True)
        for place in places:
            held: Any = table
            for key in place:
                held = held.get(key) if isinstance(held, dict) else None
            if isinstance(held, list) and len(held) > LIMITS.added_tokens:
                raise UserError(f"{file}: adds {len(held)} words; at most {LIMITS.added_tokens}")
            for word, id in _ids(held):
                if not _is_id(id):
                    raise UserError(
                        f"{file}: {str(word)[:40]!r} has the id {str(id)[:40]}; ids are whole "
                        f"numbers from 0 to {LIMITS.token_id}"
                    )


def _ids(held: Any) -> Iterator[tuple[Any, Any]]:
    """Word and id of a vocabulary, of a list of added words, or of added words by their id."""
    if isinstance(held, list):
        yield from ((each.get("content"), each.get("id")) for each in held if _is_table(each))
    elif isinstance(held, dict):
        for key, value in held.items():
            yield (value.get("content"), key) if _is_table(value) else (key, value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _is_id(id: Any) -> bool:
    if isinstance(id, str):  # the key of a table
        return re.fullmatch("[0-9]{1,9}", id) is not None and int(id) <= LIMITS.token_id
    return type(id) is int and 0 <= id <= LIMITS.token_id


def _check_class(folder: DiffusersFolder, part: str) -> None:
    indexed = folder.index.get(part)
    name = indexed[-1] if isinstance(indexed, list) and indexed else _CLASSES[0]
    if name not in _CLASSES:
        raise UserError(
            f"{folder.path}/model_index.json: {part} is {name or 'left out'}; only CLIP's "
            "tokenizer is supported"
        )
    if not (folder.path / part / _CONFIG_NAME).is_file():
        return
    name = folder.json_file(f"{part}/{_CONFIG_NAME}").get("tokenizer_class") or _CLASSES[0]
    if name not in (*_CLASSES, *_GENERIC_CLASSES):
        raise UserError(
            f"{folder.path}/{part}/{_CONFIG_NAME}: tokenizer_class is {name}; only CLIP's "
            "tokenizer is supported"
        )


def _check_files(folder: DiffusersFolder, part: str) -> None:
    path = folder.path / part
    if (path / _JOINED_NAME).is_file():
        model = folder.json_file(f"{part}/{_JOINED_NAME}").get("model")
        if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
            raise UserError(f"{path}/{_JOINED_NAME}: not a CLIP (byte-pair) tokenizer")
    elif not ((path / VOCAB_NAME).is_file() and (path / MERGES_NAME).is_file()):
        raise UserError(
            f"{path}: no {VOCAB_NAME} with {MERGES_NAME}, and no {_JOINED_NAME}; "
            "give a complete diffusers folder"
        )


def _check_marks(loaded: LoadedTokenizer) -> None:
    tokenizer = loaded.tokenizer
    for name, mark in (("bos", START), ("eos", END), ("unk", END)):
        if (given := getattr(tokenizer, f"{name}_token")) != mark:
            raise UserError(f"{loaded.path}: {name}_token is {given!r}; CLIP's is {mark!r}")
    if tokenizer.pad_token_id is None:
        raise UserError(f"{loaded.path}: no pad_token; add it to {_CONFIG_NAME}")
    if getattr(tokenizer, "split_special_tokens", False):
        raise UserError(
            f"{loaded.path}/{_CONFIG_NAME}: split_special_tokens is not supported; take it out"
        )


def _check_length(loaded: LoadedTokenizer, max_tokens: int) -> None:
    """Diffusers fills prompts up to the tokenizer's length, to the right."""
    given = loaded.tokenizer.model_max_length
    where = f"{loaded.path}/{_CONFIG_NAME}"
    if given != max_tokens:
        missing = isinstance(given, (int, float)) and given > _LARGEST_LENGTH
        known = "is missing" if missing else f"is {given!r}"
        raise UserError(
            f"{where}: model_max_length {known}, but the text encoder takes {max_tokens} tokens; "
            f"make it {max_tokens}"
        )
    ids = loaded.special_ids
    framed = [ids["bos_token_id"], ids["eos_token_id"]]
    framed += [ids["pad_token_id"]] * (max_tokens - len(framed))
    given_ids = loaded.tokenizer("", padding="max_length", max_length=max_tokens, truncation=True)[
        "input_ids"
    ]
    if given_ids != framed or loaded.tokenizer.truncation_side != "right":
        raise UserError(
            f"{where}: prompts are not framed by both marks, or not filled up or cut on the right; "
            "only that is supported"
        )


def _read_both(path: Path) -> tuple[dict[str, int], list[str]] | None:
    """What `vocab.json` and `merges.txt` hold, where both are there and can be read."""
    try:
        vocabulary = read_table(path / VOCAB_NAME)
        lines = read_text(path / MERGES_NAME).split("\n")
    except UserError:
        return None
    return vocabulary, [line for line in lines if line and not line.startswith("#version")]


def _word(
    content: str, id: int, special: bool, flags: dict[str, bool] | None = None
) -> dict[str, Any]:
    flags = flags or dict.fromkeys(_FLAGS, False)
    return {"content": content, "id": id, **flags, "special": special}
