"""Model folders from elsewhere: nothing is waited for, no pickle is read, no huge network is built,
and damage is told with the file and the key."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.folder.files import require_safe_folder
from coreml_sd.models.folder.model_card import card_texts
from coreml_sd.models.open_model import open_model
from coreml_sd.models.weights.tensor_file import TensorFile
from tests.helpers.tiny_folder import change_json, write_configs, write_tokenizer

WIDTH = 32


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that can be described; its weight files are empty."""
    folder = tmp_path / "model"
    vocabulary = write_tokenizer(folder / "tokenizer")
    configs: dict[str, dict[str, Any]] = {
        "text_encoder": {"vocab_size": vocabulary, "hidden_size": WIDTH, "num_hidden_layers": 2},
        "unet": {"sample_size": 8, "cross_attention_dim": WIDTH, "block_out_channels": [32, 64]},
        "vae": {"block_out_channels": [16, 32], "layers_per_block": 1},
    }
    for part, config in configs.items():
        (folder / part).mkdir()
        (folder / part / "config.json").write_text(json.dumps(config))
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        (folder / part / f"{stem}.safetensors").touch()
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1"}
    write_configs(folder, index, _class_name="DDIMScheduler")
    return folder


def described(folder: Path) -> Any:
    return open_model(ConversionConfig(model=str(folder)))


def test_negative_control_the_folder_is_described(model: Path) -> None:
    assert described(model).facts.size == (16, 16)
    assert described(model).folder.licence_and_author()[0] == "see the model's own terms"


FILES = [
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "scheduler/scheduler_config.json",
    "README.md",
    "coreml_sd.json",
    "anything",
]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_refused_before_anything_is_read(
    model: Path, file: str, kind: str
) -> None:
    (model / file).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(model / file)
    else:
        (model / file).symlink_to("/dev/zero")
    with pytest.raises(UserError, match=rf"{Path(file).name}: not a regular file"):
        described(model)


def test_files_that_are_links_are_taken_as_the_hubs_cache_has_them(model: Path) -> None:
    (model / "unet/config.json").rename(model.parent / "blob")
    (model / "unet/config.json").symlink_to(model.parent / "blob")
    (model / "gone.txt").symlink_to(model / "nothing")
    described(model)


def test_a_text_beyond_the_limit_is_refused(model: Path) -> None:
    with (model / "tokenizer/vocab.json").open("wb") as file:
        file.truncate(LIMITS.text_bytes + 1)
    with pytest.raises(UserError, match=r"vocab\.json: larger than 64 MB"):
        described(model)


INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"a": "x.bin"}, "only safetensors weights are opened"),
        ({"a": "../x.safetensors"}, "not a file beside it"),
        ({"a": 7}, "not a file beside it"),
        ({}, "not an index of shards"),
        ([], "not an index of shards"),
    ],
)
def test_an_index_that_leads_to_a_pickle_is_refused_before_a_library_sees_it(
    model: Path, places: Any, message: str
) -> None:
    (model / "unet" / INDEX).write_text(json.dumps({"weight_map": places}))
    (model / "unet/x.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UserError, match=rf"{INDEX}: .*{message}"):
        described(model)


@pytest.mark.parametrize("key", ["transformers_weights", "quantization_config"])
@pytest.mark.parametrize("part", ["text_encoder", "unet"])
def test_a_config_that_leads_to_other_weights_is_refused(model: Path, part: str, key: str) -> None:
    change_json(model / part / "config.json", **{key: "x.bin"})
    with pytest.raises(UserError, match=rf"{part}/config\.json: {key} is not supported"):
        described(model)


def test_an_adapter_is_refused(model: Path) -> None:
    (model / "text_encoder/adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"adapter_config\.json: adapters are not supported"):
        require_safe_folder(model)


HUGE = 10_000_000
NUMBERS = [
    ("text_encoder", "num_hidden_layers", HUGE),
    ("text_encoder", "num_attention_heads", HUGE),
    ("text_encoder", "hidden_size", HUGE),
    ("text_encoder", "vocab_size", HUGE),
    ("text_encoder", "intermediate_size", 10**30),
    ("text_encoder", "max_position_embeddings", 2048),
    ("unet", "layers_per_block", HUGE),
    ("unet", "layers_per_block", [1, HUGE]),
    ("unet", "transformer_layers_per_block", [[HUGE], 1]),
    ("unet", "transformer_layers_per_block", 600),
    ("unet", "block_out_channels", [32] * 100_000),
    ("unet", "block_out_channels", [HUGE, 32]),
    ("unet", "norm_num_groups", -1),
    ("vae", "block_out_channels", [32] * 10),
    ("vae", "layers_per_block", HUGE),
    ("vae", "scaling_factor", 1e300),
    ("vae", "latent_channels", HUGE),
]


@pytest.mark.parametrize(("part", "key", "value"), NUMBERS, ids=str)
def test_a_network_beyond_the_limits_is_not_built(
    model: Path, part: str, key: str, value: Any
) -> None:
    change_json(model / part / "config.json", **{key: value})
    with pytest.raises(UserError, match=rf"{part}/config\.json: .*{key}"):
        described(model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_train_timesteps", 300_000_000),
        ("num_train_timesteps", 0),
        ("num_train_timesteps", "1000"),
        ("trained_betas", [0.1] * 20_000),
        ("beta_end", 1e30),
        ("beta_end", "x"),
        ("beta_schedule", ["x"]),
    ],
)
def test_a_schedulers_numbers_are_held_against_the_limits(
    model: Path, key: str, value: Any
) -> None:
    change_json(model / "scheduler/scheduler_config.json", **{key: value})
    with pytest.raises(UserError, match=rf"scheduler_config\.json: .*{key}"):
        described(model)


def test_infinities_and_long_numbers_that_libraries_write_are_read(model: Path) -> None:
    change_json(model / "scheduler/scheduler_config.json", lambda_min_clipped=float("-inf"))
    change_json(model / "tokenizer/tokenizer_config.json", other_length=10**30)
    described(model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 10**9),
        ("steps", "20"),
        ("guidance", float("nan")),
        ("guidance", []),
        ("prompts", "a"),
        ("prompts", [1]),
        ("scheduler", "no such"),
    ],
)
def test_advice_of_another_kind_is_refused(model: Path, key: str, value: Any) -> None:
    (model / "coreml_sd.json").write_text(json.dumps({key: value}))
    with pytest.raises(UserError, match=r"coreml_sd\.json: "):
        described(model)


@pytest.mark.parametrize("size", ["16384x16384", "99999999999999999999x8"])
def test_a_picture_beyond_the_limits_is_refused(model: Path, size: str) -> None:
    with pytest.raises(UserError, match="size"):
        open_model(ConversionConfig(model=str(model), size=size))


@pytest.mark.parametrize("text", ["", "[]", "[" * 9999, '{"a": 1, "a": 2}', "\ufeff{}", "null"])
@pytest.mark.parametrize("file", ["model_index.json", "vae/config.json"])
def test_a_damaged_config_is_named(model: Path, file: str, text: str) -> None:
    (model / file).write_text(text)
    with pytest.raises(UserError, match=Path(file).name):
        described(model)


IDS = {
    "a word": ("vocab.json", {"!": 10**12}),
    "below zero": ("vocab.json", {"!": -1}),
    "no number": ("vocab.json", {"!": [1]}),
    "a fraction": ("added_tokens.json", {"x": 1.5}),
    "an added word": ("tokenizer_config.json", {"added_tokens_decoder": {"9" * 12: {}}}),
}


@pytest.mark.parametrize(("file", "values"), IDS.values(), ids=IDS)
def test_an_id_beyond_the_limit_is_refused_before_the_library_counts_up_to_it(
    model: Path, file: str, values: dict[str, Any]
) -> None:
    path = model / "tokenizer" / file
    if not path.exists():
        path.write_text("{}")
    change_json(path, **values)
    with pytest.raises(UserError, match=rf"{file}: .* has the id"):
        described(model)


def test_the_ids_of_one_file_with_all_are_held_against_the_limit_too(model: Path) -> None:
    for content in (
        {"model": {"type": "BPE", "vocab": {"!": 10**12}}},
        {"model": {"type": "BPE", "vocab": {}}, "added_tokens": [{"content": "x", "id": -7}]},
    ):
        (model / "tokenizer/tokenizer.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"tokenizer\.json: .* has the id"):
            described(model)


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(60))
CARDS = {
    BOMB + "license: *a60": "YAML aliases",
    "license: [": "not YAML",
    "license: \x01": "not YAML",
    "[" * 1500: "not YAML",
    "license: " + "x" * 300_000: "header of 300009 characters",
}


@pytest.mark.parametrize(("header", "message"), CARDS.items(), ids=CARDS.values())
def test_a_model_cards_header_is_read_without_aliases(
    model: Path, header: str, message: str
) -> None:
    (model / "README.md").write_text(f"---\n{header}\n---\n# Card\n")
    with pytest.raises(UserError, match=rf"README\.md: .*{message}"):
        DiffusersFolder(model).licence_and_author()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nlicense: mit\nauthor: A\n---\n", {"license": "mit", "author": "A"}),
        ("\ufeff---\r\nlicense: 3\r\n---\r\nx", {"license": "3"}),
        ("---\nlicense: [mit]\ntags:\n- a\nauthor: null\n---", {}),
        ("# no header", {}),
        ("---\n- a\n---\n", {}),
        ("", {}),
    ],
)
def test_what_a_model_card_says(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    (tmp_path / "README.md").write_bytes(text.encode())
    assert card_texts(tmp_path / "README.md") == expected


def write_tensors(path: Path, header: Any, payload: bytes = b"\0" * 16) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)
    return path


def tensor(first: int, last: int, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, last]}


HEADERS = {
    "overlapping": {"a": tensor(0, 8), "b": tensor(4, 12), "c": tensor(12, 16, (1,))},
    "one place for two": {"a": tensor(0, 8), "b": tensor(0, 8), "c": tensor(8, 16)},
    "a gap": {"a": tensor(0, 4, (1,)), "b": tensor(8, 16)},
    "bytes behind": {"a": tensor(0, 8)},
    "beyond the end": {"a": tensor(0, 8), "b": tensor(8, 24, (4,))},
    "another size": {"a": tensor(0, 16, (2,))},
    "backwards": {"a": tensor(16, 0, (0,))},
    "a huge shape": {"a": tensor(0, 16, (1 << 62, 1 << 62))},
    "a negative shape": {"a": tensor(0, 16, (-2, -2))},
    "a shape of floats": {"a": tensor(0, 16, (4.0,))},
    "no shape": {"a": {"dtype": "F32", "data_offsets": [0, 16]}},
    "no table": {"a": 7},
    "a dtype of another kind": {"a": tensor(0, 16, (4,), 7)},
    "three offsets": {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16, 16]}},
    "many axes": {"a": tensor(0, 16, (1,) * 40 + (4,))},
    "a list": [],
    "a name twice": b'{"a": ' + json.dumps(tensor(0, 16, (4,))).encode() + b', "a": {}}',
    "no JSON": b"\xff\xfe{}",
    "deep": b"[" * 50_000,
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_tensors_that_the_format_forbids_are_refused(tmp_path: Path, header: Any) -> None:
    with pytest.raises(UserError, match=r"t\.safetensors: truncated or damaged"):
        TensorFile(write_tensors(tmp_path / "t.safetensors", header))


@pytest.mark.parametrize("length", [0, 1, 100_000_001, 1 << 62, (1 << 64) - 1])
def test_a_header_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    path = write_tensors(tmp_path / "t.safetensors", {"a": tensor(0, 16, (4,))})
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    with pytest.raises(UserError, match=r"t\.safetensors: truncated or damaged"):
        TensorFile(path)


def test_negative_control_tensors_in_any_order_are_read(tmp_path: Path) -> None:
    header = {"__metadata__": {"format": "pt"}, "b": tensor(8, 16), "a": tensor(0, 8)}
    file = TensorFile(write_tensors(tmp_path / "t.safetensors", header))
    assert {name: entry.shape for name, entry in file.entries.items()} == {"a": (2,), "b": (2,)}
