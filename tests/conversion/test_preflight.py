"""What would stop a conversion is found before its first component, and in a dry run."""

import contextlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.conversion.preflight import preflight
from coreml_sd.errors import UserError
from coreml_sd.progress import Advance, Silent, Stage
from tests.helpers.tiny_folder import change_json


class Recorded(Silent):
    """The titles of all stages that began."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[Advance]:
        self.titles.append(stage.title)
        yield lambda done, of: None


@pytest.fixture
def model(sd1_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd1_folder, tmp_path / "model"))


def changed_vae(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        path = model / "vae/diffusion_pytorch_model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, {"format": "pt"})

    return apply


def without_a_tensor(held: dict[str, torch.Tensor]) -> None:
    del held["decoder.conv_out.weight"]


def word_without_embedding(model: Path) -> None:
    (model / "tokenizer/added_tokens.json").write_text(json.dumps({"<far>": 90_000}), "utf-8")


MISSING = object()
ODD_VALUES: list[Any] = [None, "x", "", -1, 0, 3, 1.5, True, [], [1], [None], {}, MISSING]

REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a missing tensor": (
        changed_vae(without_a_tensor),
        "vae: weights do not fit the config: lacks decoder.conv_out.weight",
    ),
    "a tensor of no parameter": (
        changed_vae(lambda held: held.update(more=torch.ones(2))),
        "has more that no parameter takes",
    ),
    "a network without a mobile form": (
        lambda model: change_json(model / "vae/config.json", act_fn="gelu"),
        "vae: .* has no mobile form",
    ),
    "a config that builds nothing": (
        lambda model: change_json(model / "vae/config.json", down_block_types=["NoBlock"] * 2),
        "vae/config.json: no network can be built from it",
    ),
    "a word without an embedding": (
        word_without_embedding,
        r"the word '<far>' has id \d+, but its text encoder has",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_found_before_the_first_component(name: str, model: Path, tmp_path: Path) -> None:
    change, message = REFUSED[name]
    change(model)
    config = ConversionConfig(model=str(model))
    with pytest.raises(UserError, match=message):
        preflight(plan_conversion(config))
    progress = Recorded()
    with pytest.raises(UserError, match=message):
        convert(config, tmp_path / "out.bundle", progress=progress)
    assert not any(title.startswith(("text_encoder:", "unet:", "vae")) for title in progress.titles)
    assert not (tmp_path / "out.bundle").exists()


def test_a_whole_model_passes(sd1_folder: Path, xl_folder: Path, md_folder: Path) -> None:
    for folder in (sd1_folder, xl_folder, md_folder):
        config = ConversionConfig(model=str(folder), targets=["coreml", "tflite"])
        preflight(plan_conversion(config))


def test_a_model_to_be_pruned_passes(sd1_folder: Path) -> None:
    preflight(plan_conversion(ConversionConfig(model=str(sd1_folder), prune=0.1)))


def test_a_value_that_no_network_can_have_is_one_line(model: Path) -> None:
    """Configs with a key left out or of another kind, drawn by a seed."""
    source = random.Random(15)
    files = [file for file in sorted(model.rglob("*.json")) if file.name != "vocab.json"]
    refused = 0
    for _ in range(60):
        file = source.choice(files)
        text = file.read_text("utf-8")
        content = json.loads(text)
        key, value = source.choice(sorted(content)), source.choice(ODD_VALUES)
        content.pop(key) if value is MISSING else content.update({key: value})
        file.write_text(json.dumps(content), "utf-8")
        try:
            preflight(plan_conversion(ConversionConfig(model=str(model))))
        except UserError as error:
            assert "\n" not in str(error), (file.name, key, value)
            refused += 1
        file.write_text(text, "utf-8")
    assert 10 < refused < 60


def test_only_the_named_components_are_looked_at(model: Path) -> None:
    REFUSED["a missing tensor"][0](model)
    preflight(plan_conversion(ConversionConfig(model=str(model))), ["unet"])
