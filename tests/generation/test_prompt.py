"""Prompts to token ids: added words, several embeddings of one word, and what does not fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers

from coreml_sd.errors import UserError
from coreml_sd.generation.prompt import PromptEncoder
from coreml_sd.models.find_model import DEMO_FOLDER
from scripts.make_fixtures import FOLDER

VOCABULARY = DEMO_FOLDER / "tokenizer"
PLAIN = {"bos_token_id": 1404, "eos_token_id": 1405, "pad_token_id": 1405, "max_tokens": 77}


def read(name: str) -> dict[str, Any]:
    fixture: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return fixture


def word(content: str, id: int, **flags: bool) -> dict[str, Any]:
    names = ("lstrip", "rstrip", "single_word", "normalized", "special")
    return {"content": content, "id": id, **dict.fromkeys(names, False), **flags}


def ids(facts: dict[str, Any], prompt: str) -> list[int]:
    """Without framing and padding."""
    found: list[int] = PromptEncoder(VOCABULARY, facts).encode(prompt).ids[0].astype(int).tolist()
    return found[1 : found.index(facts["eos_token_id"])]


@pytest.mark.parametrize("name", ["tokenizer_added", "tokenizer_published"])
def test_added_words_are_found_as_transformers_finds_them(name: str) -> None:
    fixture = read(name)
    facts = fixture["facts"]
    encoder = PromptEncoder(VOCABULARY, facts)
    plain = PromptEncoder(VOCABULARY, {k: v for k, v in facts.items() if k != "added_tokens"})
    equal = 0
    for index, prompt in enumerate(fixture["prompts"]):
        body = fixture["expanded"].get(str(index), fixture["ids"][index])[:75]
        framed = [facts["bos_token_id"], *body, facts["eos_token_id"]]
        framed += [facts["pad_token_id"]] * (77 - len(framed))
        encoded = encoder.encode(prompt)
        assert encoded.ids[0].astype(int).tolist() == framed, prompt
        assert encoded.cut == fixture["cut"].get(str(index), "")
        equal += plain.encode(prompt).ids[0].astype(int).tolist() == framed
    assert equal < len(fixture["prompts"]) / 2  # without the added words most are wrong


def test_a_manifest_without_added_words_is_read_as_ever() -> None:
    """Both marks and the word of the padding are found wherever they stand."""
    assert ids({**PLAIN, "pad_token_id": 0}, "cat!")[-1:] == [0]
    assert ids(PLAIN, "cat!")[-1:] != [0]
    assert ids(PLAIN, "<|startoftext|>") == [1404]
    assert ids(PLAIN, "<|STARTOFTEXT|>") != [1404]


def test_other_files_of_a_tokenizer_change_nothing(tmp_path: Path) -> None:
    """A bundle's tokenizer is `vocab.json` and `merges.txt`; others are not among its files."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(VOCABULARY / name, tmp_path)
    plain = PromptEncoder(tmp_path, PLAIN).encode("a red cat").ids
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / "tokenizer_config.json").write_text('{"unk_token": "!", "do_lower_case": 5}')
    with pytest.raises(Exception, match=r"EOF|Expecting"):  # they would be read
        transformers.CLIPTokenizerFast.from_pretrained(tmp_path)
    assert (PromptEncoder(tmp_path, PLAIN).encode("a red cat").ids == plain).all()


def test_a_word_of_several_embeddings_is_written_as_all_of_them() -> None:
    words = [word(f"<tok>{end}", 1406 + n) for n, end in enumerate(("", "_1", "_2", "_4"))]
    facts = {**PLAIN, "added_tokens": words}
    assert ids(facts, "<tok>") == [1406, 1407, 1408]
    assert ids(facts, "<tok>_1") == [1407]


def test_ids_are_those_of_the_facts_whatever_the_vocabulary_counts() -> None:
    facts = {**PLAIN, "added_tokens": [word("<a>", 5000), word("<b>", 2000)]}
    assert ids(facts, "<a><b>") == [5000, 2000]


@pytest.mark.parametrize(
    ("prompt", "cut"),
    [
        ("cat " * 75, ""),
        ("cat " * 77, "cat cat"),
        ("cat " * 74 + "supercalifragilistic DOG", "supercalifragilistic DOG"),
        ("cat " * 74 + "year-2024's, next \u00a0", "year-2024's, next"),
        ("cat " * 73 + "a <low>  <tok>x end", "<tok>x end"),
        (" ".join(f"word{number}" for number in range(40)), "word14"),
        ("Na\u00efve " * 40, "Na\u00efve Na\u00efve"),
        ("\u732b" * 40, "\u732b" * 15),
        ("x" * 200, "x" * 200),
    ],
)
def test_what_is_shown_of_a_cut_prompt_begins_with_a_whole_word(prompt: str, cut: str) -> None:
    words = [word("<low>", 1406), word("<tok>", 1407)]
    encoded = PromptEncoder(VOCABULARY, {**PLAIN, "added_tokens": words}).encode(prompt)
    assert encoded.cut.startswith(cut) and bool(encoded.cut) == bool(cut)
    assert prompt.rstrip().endswith(encoded.cut)
    before = prompt[: prompt.rstrip().rindex(encoded.cut)] if cut else prompt
    assert PromptEncoder(VOCABULARY, {**PLAIN, "added_tokens": words}).encode(before).cut == ""


def test_damaged_files_are_told_in_one_line(tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((VOCABULARY / name).read_bytes())
    (tmp_path / "merges.txt").write_text("#version: 0.2\nzeb unicorn\n", "utf-8")
    with pytest.raises(UserError, match=r"merges\.txt cannot be read") as caught:
        PromptEncoder(tmp_path, PLAIN).encode("a cat")
    assert "\n" not in str(caught.value)


def test_words_that_multiply_each_other_have_an_end() -> None:
    """Each word ends with the next, and is written twice: 2^24 of the last."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [letters[first:] for first in range(24)]
    ends = [*names, *(f"{name}_1" for name in names)]
    added = [word(name, 10 + number) for number, name in enumerate(ends)]
    with pytest.raises(UserError, match="beyond 1,000,000 characters"):
        ids({**PLAIN, "added_tokens": added}, " ".join(names))


def test_a_word_twice_in_the_vocabulary_is_refused(tmp_path: Path) -> None:
    text = (VOCABULARY / "vocab.json").read_text("utf-8")
    (tmp_path / "vocab.json").write_text(text.replace("{", '{"!": 5, ', 1), "utf-8")
    shutil.copy(VOCABULARY / "merges.txt", tmp_path)
    with pytest.raises(UserError, match="twice"):
        PromptEncoder(tmp_path, PLAIN).encode("a cat")
