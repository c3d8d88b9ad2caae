"""Models with random weights: seeded, made one weight at a time, the same however they are read."""

import dataclasses

import numpy as np
import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.models.find_model import DEMO_FOLDER
from coreml_sd.models.mobile_diffusion.presets import PRESETS
from coreml_sd.models.open_model import open_model
from coreml_sd.models.weights.seeded import SeededFolder, SeededWeights
from tests.helpers.tiny_md import TINY

SHAPES = {"a.weight": (64, 32, 3, 3), "b.weight": (64, 32, 3, 3), "norm.weight": (512,)}


def tiny_folder() -> SeededFolder:
    """The preset's files with a tiny UNet."""
    files = {**PRESETS["md"], "unet/config.json": {**PRESETS["md"]["unet/config.json"], **TINY}}
    return SeededFolder(DEMO_FOLDER, "tiny", files)


def test_equal_seeds_give_equal_values_and_others_others() -> None:
    first, second = (SeededWeights(SHAPES, "md/unet") for _ in range(2))
    assert np.array_equal(first.value("a.weight"), second.value("a.weight"))
    assert not np.array_equal(first.value("a.weight"), first.value("b.weight"))
    other = SeededWeights(SHAPES, "md-lite/unet")
    assert not np.array_equal(first.value("a.weight"), other.value("a.weight"))


def test_values_keep_the_size_of_what_goes_through() -> None:
    weights = SeededWeights(SHAPES, "x")
    wide, norm = weights.value("a.weight"), weights.value("norm.weight")
    assert wide.dtype == np.float16
    assert float(wide.astype(float).std()) == pytest.approx((32 * 9) ** -0.5, rel=0.02)
    assert float(norm.astype(float).mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_loaded_network_has_the_values_of_an_open_one(part: str) -> None:
    from coreml_sd.models.weights.load import load_network
    from coreml_sd.models.weights.placeholder_network import open_network

    folder = tiny_folder()
    loaded, opened = load_network(folder, part), open_network(folder, part)
    assert opened is not None
    names = {name for name, _ in opened.module.named_parameters()}
    assert all(parameter.is_meta for parameter in opened.module.parameters())
    for name, parameter in loaded.named_parameters():
        assert np.array_equal(parameter.numpy(), opened.weights.value(name).astype(np.float32))
    assert names == {name for name, _ in loaded.named_parameters()}
    assert not any(buffer.is_meta for buffer in loaded.buffers())


def test_the_digest_tells_configs_apart() -> None:
    folder = tiny_folder()
    assert folder.digest() == tiny_folder().digest()
    assert folder.digest() != dataclasses.replace(folder, name="other").digest()
    assert folder.digest() != dataclasses.replace(folder, files=PRESETS["md"]).digest()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_models_of_512_pixels(name: str) -> None:
    model = open_model(ConversionConfig(model=name))
    assert (model.facts.family, model.facts.size) == ("mobile-diffusion", (512, 512))
    assert (model.facts.latent_channels, model.facts.latent_size) == (8, (64, 64))
    assert model.folder.weight_bytes("unet") > 5e8
