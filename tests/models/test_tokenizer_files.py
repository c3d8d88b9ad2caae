"""Tokenizers of a folder: whatever files say it, the bundle gives what transformers loads."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.loaders import TextualInversionLoaderMixin
from tokenizers import AddedToken
from transformers import CLIPTokenizer

from coreml_sd.errors import UserError
from coreml_sd.generation.prompt import PromptEncoder
from coreml_sd.models.find_model import DEMO_FOLDER
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.folder.tokenizer_files import (
    load_tokenizer,
    require_embedding_rows,
    require_same_vocabulary,
    tokenizer_facts,
    write_tokenizer_files,
)
from scripts.fixtures._added import write_joined, write_published
from tests.helpers.diffusers_pipeline import diffusers_pipeline
from tests.helpers.published_folders import CLIP_VOCABULARY, PUBLISHED, write_published_tokenizer
from tests.helpers.tiny_folder import change_json, write_tokenizer

PROMPTS = (
    "",
    "A cat & a zebra!!",
    "<|STARTOFTEXT|> cat <|EndOfText|>!<|endoftext|>",
    "na\u00efve caf\u00e9 \U0001f993 e\u0301",
    "a <tok> b<TOK>c <tok>_1 xtoky sks sks!",
    "cat " * 90,
)


def differing(
    model: Path, bundle: Path, facts: dict[str, Any], part: str = "tokenizer"
) -> list[str]:
    """Prompts whose ids in the bundle are not those that diffusers' pipeline feeds."""
    original = CLIPTokenizer.from_pretrained(model / part)
    encoder = PromptEncoder(bundle, facts)
    length = original.model_max_length
    wrong = []
    for prompt in PROMPTS:
        fed = TextualInversionLoaderMixin().maybe_convert_prompt(prompt, original)
        ids = original(fed, padding="max_length", max_length=length, truncation=True)["input_ids"]
        if encoder.encode(prompt).ids[0].astype(int).tolist() != ids:
            wrong.append(prompt)
    return wrong


def bundled(model: Path, part: str = "tokenizer") -> tuple[Path, dict[str, Any]]:
    """A folder beside the model with what a bundle holds, and the facts."""
    bundle = model.parent / "bundle"
    bundle.mkdir(exist_ok=True)
    write_tokenizer_files(DiffusersFolder(model), bundle)
    return bundle, tokenizer_facts(DiffusersFolder(model), 77, part)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a tiny tokenizer and nothing else."""
    write_tokenizer(tmp_path / "model/tokenizer")
    (tmp_path / "model/model_index.json").write_text("{}", "utf-8")
    return tmp_path / "model"


def add_words(model: Path, *words: str | AddedToken, part: str = "tokenizer") -> None:
    """Save the tokenizer again with more words, as newer libraries do."""
    tokenizer = CLIPTokenizer.from_pretrained(model / part)
    tokenizer.add_tokens(list(words))
    shutil.rmtree(model / part)
    tokenizer.save_pretrained(model / part)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_folder_is_read_as_transformers_reads_it(name: str, tmp_path: Path) -> None:
    part = name.rsplit("/", 1)[1]
    model = write_published_tokenizer(name, tmp_path / "model", DEMO_FOLDER / "tokenizer")
    if part != "tokenizer":
        shutil.copytree(model / part, model / "tokenizer")
    bundle, facts = bundled(model, part)
    original = CLIPTokenizer.from_pretrained(model / part)
    assert facts["pad_token_id"] == original.pad_token_id
    assert differing(model, bundle, facts, part) == []


@pytest.mark.skipif(
    not CLIP_VOCABULARY.is_dir(), reason="no CLIP vocabulary; scripts/clip_vocabulary fetches it"
)
def test_stable_diffusion_2_pads_with_an_exclamation_mark(tmp_path: Path) -> None:
    """special_tokens_map.json alone says so; tokenizer_config.json says the end mark."""
    model = write_published_tokenizer("sd-2-1-768/tokenizer", tmp_path / "model", CLIP_VOCABULARY)
    bundle, facts = bundled(model)
    assert facts["pad_token_id"] == 0 and facts["eos_token_id"] == 49407
    assert differing(model, bundle, facts) == []
    by_one_file = {**facts, "pad_token_id": 49407}
    assert set(PROMPTS[:-1]) <= set(differing(model, bundle, by_one_file))


def test_the_case_of_a_mark_matters_where_the_folder_says_so(tmp_path: Path) -> None:
    """Published marks are looked for in lower case too."""
    model = write_published_tokenizer(
        "sd-1-4/tokenizer", tmp_path / "model", DEMO_FOLDER / "tokenizer"
    )
    bundle, facts = bundled(model)
    assert differing(model, bundle, facts) == []
    del facts["added_tokens"]
    assert differing(model, bundle, facts) == [PROMPTS[2]]


def test_a_plain_tokenizer_adds_nothing_to_the_manifest_and_is_copied(model: Path) -> None:
    bundle, facts = bundled(model)
    assert list(facts) == ["bos_token_id", "eos_token_id", "pad_token_id", "max_tokens"]
    for name in ("vocab.json", "merges.txt"):
        assert (bundle / name).read_bytes() == (model / "tokenizer" / name).read_bytes()
    assert differing(model, bundle, facts) == []
    demo = tokenizer_facts(DiffusersFolder(DEMO_FOLDER), 77)
    assert "added_tokens" not in demo


@pytest.mark.parametrize("write", [write_joined, write_published])
def test_added_words_reach_the_facts(write: Callable[[Path], Path], tmp_path: Path) -> None:
    model = write(tmp_path / "model")
    bundle, facts = bundled(model)
    original = CLIPTokenizer.from_pretrained(model / "tokenizer")
    words = {word["content"]: word["id"] for word in facts["added_tokens"]}
    assert words == original.added_tokens_encoder and "<cat-toy>_2" in words
    for word in facts["added_tokens"]:
        flags = original.added_tokens_decoder[word["id"]]
        assert all(word[name] == getattr(flags, name) for name in word if name != "id")
    assert differing(model, bundle, facts) == []
    vocabulary = json.loads((bundle / "vocab.json").read_text("utf-8"))
    assert vocabulary == original.backend_tokenizer.get_vocab(with_added_tokens=False)


def test_a_textual_inversion_that_diffusers_saved(sd1_folder: Path, tmp_path: Path) -> None:
    pipeline = diffusers_pipeline(StableDiffusionPipeline, sd1_folder)
    width = pipeline.text_encoder.config.hidden_size
    pipeline.load_textual_inversion({"<tok>": torch.ones(3, width)}, token="<tok>")
    pipeline.load_textual_inversion({"sks": torch.ones(1, width)}, token="sks")
    model = tmp_path / "model"
    pipeline.tokenizer.save_pretrained(model / "tokenizer")
    shutil.copyfile(sd1_folder / "model_index.json", model / "model_index.json")
    bundle, facts = bundled(model)
    contents = [word["content"] for word in facts["added_tokens"]]
    assert {"<tok>", "<tok>_1", "<tok>_2", "sks"} <= set(contents)
    assert differing(model, bundle, facts) == []
    rows = pipeline.text_encoder.get_input_embeddings().weight.shape[0]
    require_embedding_rows(DiffusersFolder(model), rows)
    del facts["added_tokens"]
    assert PROMPTS[4] in differing(model, bundle, facts)


def test_a_word_without_an_embedding_is_refused(model: Path) -> None:
    rows = len(json.loads((model / "tokenizer/vocab.json").read_text("utf-8")))
    require_embedding_rows(DiffusersFolder(model), rows)
    add_words(model, "<tok>")
    require_embedding_rows(DiffusersFolder(model), rows + 1)
    with pytest.raises(UserError, match=f"'<tok>' has id {rows}, but .* {rows} embeddings; save"):
        require_embedding_rows(DiffusersFolder(model), rows)


def test_where_two_layouts_differ_transformers_choice_is_taken(model: Path) -> None:
    add_words(model, "sks")
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(DEMO_FOLDER / "tokenizer" / name, model / "tokenizer" / name)
    bundle, facts = bundled(model)
    assert differing(model, bundle, facts) == []
    demo = (DEMO_FOLDER / "tokenizer/vocab.json").read_bytes()
    assert (bundle / "vocab.json").read_bytes() != demo


@pytest.mark.parametrize("places", [(0, 1), (0, -1), (100, 200)])
@pytest.mark.parametrize("gap", [0, 7])
def test_marks_anywhere_and_ids_with_gaps(model: Path, places: tuple[int, int], gap: int) -> None:
    path = model / "tokenizer/vocab.json"
    words = [word for word in json.loads(path.read_text("utf-8")) if not word.startswith("<|")]
    for place, mark in zip(places, ("<|startoftext|>", "<|endoftext|>"), strict=True):
        words.insert(place % (len(words) + 1), mark)
    ids = {word: index + gap * (index > 300) for index, word in enumerate(words)}
    path.write_text(json.dumps(ids), "utf-8")
    added = {"<tok>": 600, "<tok>_1": 601, "cat</w>": ids["cat</w>"], "sks": 9000}
    (model / "tokenizer/added_tokens.json").write_text(json.dumps(added), "utf-8")
    bundle, facts = bundled(model)
    assert facts["bos_token_id"] == ids["<|startoftext|>"]
    assert differing(model, bundle, facts) == []
    written = json.loads((bundle / "vocab.json").read_text("utf-8"))
    assert written == ids


@pytest.mark.parametrize("marks", [("<|startoftext|>",), ("<|startoftext|>", "<|endoftext|>")])
def test_marks_that_only_were_added_are_in_the_bundles_vocabulary(
    model: Path, marks: tuple[str, ...]
) -> None:
    path = model / "tokenizer/vocab.json"
    words = json.loads(path.read_text("utf-8"))
    kept = {word: id for word, id in words.items() if word not in marks}
    path.write_text(json.dumps(kept), "utf-8")
    bundle, facts = bundled(model)
    assert differing(model, bundle, facts) == []
    written = json.loads((bundle / "vocab.json").read_text("utf-8"))
    assert written["<|startoftext|>"] == facts["bos_token_id"]


def test_two_tokenizers_may_have_words_of_their_own(model: Path) -> None:
    shutil.copytree(model / "tokenizer", model / "tokenizer_2")
    add_words(model, "<tok>", part="tokenizer_2")
    change_json(model / "tokenizer_2/tokenizer_config.json", pad_token="!")
    require_same_vocabulary(DiffusersFolder(model))
    bundle, facts = bundled(model, "tokenizer_2")
    assert differing(model, bundle, facts, "tokenizer_2") == []
    assert "added_tokens" not in tokenizer_facts(DiffusersFolder(model), 77)


def test_two_vocabularies_are_refused(model: Path) -> None:
    shutil.copytree(DEMO_FOLDER / "tokenizer", model / "tokenizer_2")
    with pytest.raises(UserError, match="tokenizer and tokenizer_2 have different vocabularies"):
        require_same_vocabulary(DiffusersFolder(model))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tokenizer_class": "T5Tokenizer"}, r"tokenizer_config.json: tokenizer_class is T5Tok"),
        ({"tokenizer_class": "GPT2TokenizerFast"}, r"tokenizer_class is GPT2TokenizerFast; only"),
        ({"model_max_length": None}, r"tokenizer_config.json: model_max_length is missing"),
        ({"model_max_length": 64}, r"model_max_length is 64, but the text encoder takes 77"),
        ({"model_max_length": 512}, r"model_max_length is 512, .*; make it 77"),
        ({"padding_side": "left"}, r"not filled up or cut on the right"),
        ({"truncation_side": "left"}, r"not filled up or cut on the right"),
        ({"pad_token": None}, r"no pad_token"),
        ({"bos_token": "[BOS]"}, r"bos_token is '\[BOS\]'; CLIP's is"),
        ({"split_special_tokens": True}, r"split_special_tokens is not supported"),
    ],
)
def test_what_a_bundle_cannot_do_is_refused(model: Path, change: dict[str, Any], told: str) -> None:
    change_json(model / "tokenizer/tokenizer_config.json", **change)
    with pytest.raises(UserError, match=told) as caught:
        tokenizer_facts(DiffusersFolder(model), 77)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", [["transformers", "T5TokenizerFast"], [None, None]])
def test_another_class_in_the_index_is_refused(model: Path, entry: list[Any]) -> None:
    (model / "model_index.json").write_text(json.dumps({"tokenizer": entry}), "utf-8")
    with pytest.raises(UserError, match=r"model_index.json: tokenizer is .*only CLIP's"):
        tokenizer_facts(DiffusersFolder(model), 77)


@pytest.mark.parametrize(
    "name",
    [
        "vocab.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "tokenizer.json",
    ],
)
@pytest.mark.parametrize("text", ["", "{", "[]", '{"bos_token": 7, "a": {"b": []}}'])
def test_a_damaged_file_is_told_in_one_line(model: Path, name: str, text: str) -> None:
    (model / "tokenizer" / name).write_text(text, "utf-8")
    with pytest.raises(UserError, match=r"tokenizer") as caught:
        tokenizer_facts(DiffusersFolder(model), 77)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_merges_of_unknown_tokens_are_told(model: Path) -> None:
    (model / "tokenizer/merges.txt").write_text("#version: 0.2\nzeb ra</w>\n", "utf-8")
    with pytest.raises(UserError, match=r"merges\.txt"):
        tokenizer_facts(DiffusersFolder(model), 77)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_missing_file_is_told(model: Path, name: str) -> None:
    (model / "tokenizer" / name).unlink()
    with pytest.raises(UserError, match=r"no vocab.json with merges.txt, and no tokenizer.json"):
        tokenizer_facts(DiffusersFolder(model), 77)


def test_a_tokenizer_is_loaded_once_and_again_when_it_changed(model: Path) -> None:
    first = load_tokenizer(DiffusersFolder(model))
    assert load_tokenizer(DiffusersFolder(model)) is first
    change_json(model / "tokenizer/tokenizer_config.json", pad_token="!")
    assert load_tokenizer(DiffusersFolder(model)).special_ids["pad_token_id"] == 0
