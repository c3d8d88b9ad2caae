"""Device profiles: the table, and the rule by which a convolution is run and fits."""

import dataclasses
from pathlib import Path
from typing import get_args

import pytest
from torch import nn

from coreml_sd.config import ANDROID_PROFILES, QUANTIZATIONS, ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.mobile.gelu import GELUS
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.open_model import open_model
from coreml_sd.targets.tflite.profiles import PROFILES, Quantization, Winograd, profile
from coreml_sd.targets.tflite.rewrites import android_form

GPU_PROFILES = ("gpu", "adreno7xx", "adreno6xx", "mali")


class TestTable:
    def test_the_knob_offers_every_profile(self) -> None:
        assert tuple(PROFILES) == ANDROID_PROFILES
        assert get_args(Quantization) == QUANTIZATIONS

    def test_an_unknown_one_is_named_with_the_choices(self) -> None:
        with pytest.raises(UserError, match="android profile adreno5xx: choose from cpu, gpu, a"):
            profile("adreno5xx")

    @pytest.mark.parametrize("name", PROFILES)
    def test_it_asks_for_what_exists(self, name: str) -> None:
        chosen = profile(name)
        assert chosen.name == name and chosen.description
        assert chosen.quantization in QUANTIZATIONS and chosen.palettize_as in QUANTIZATIONS
        assert chosen.gelu in GELUS
        assert chosen.table_limit == (0 if chosen.accelerator == "cpu" else 128 * 2**20)
        assert chosen.tensor_limit == (128 if chosen.accelerator == "cpu" else 32) * 2**20

    @pytest.mark.parametrize("name", GPU_PROFILES)
    def test_no_gpu_gets_a_file_that_only_a_cpu_computes_alike(self, name: str) -> None:
        assert "dynamic-int8" not in (profile(name).quantization, profile(name).palettize_as)
        assert profile(name).image_limit == 16384

    def test_a_cpu_has_no_images_and_no_winograd(self) -> None:
        assert (profile("cpu").image_limit, profile("cpu").winograd) == (0, None)
        assert profile("cpu").convolution_fits(4096, 4096, 512, 512)


class TestWinograd:
    """T2.5: slices of four channels on both sides, and tiles of 4x4 pixels, reach a minimum."""

    @pytest.mark.parametrize(
        ("name", "slices", "tiles"),
        [("gpu", 16, 32), ("mali", 16, 32), ("adreno7xx", 32, 64), ("adreno6xx", 32, 128)],
    )
    def test_the_thresholds(self, name: str, slices: int, tiles: int) -> None:
        rule = profile(name).winograd
        assert rule == Winograd(slices, tiles)
        channels, width = 4 * slices, 4 * tiles
        assert rule.runs(channels, channels, 4, width)
        assert not rule.runs(channels - 4, channels, 4, width)
        assert not rule.runs(channels, channels - 4, 4, width)
        assert not rule.runs(channels, channels, 4, width - 4)

    def test_slices_and_tiles_are_rounded_up(self) -> None:
        rule = Winograd(16, 32)
        assert rule.runs(61, 61, 29, 13) and not rule.runs(60, 61, 29, 13)
        assert not rule.runs(61, 61, 28, 13) and not rule.runs(61, 61, 29, 12)


@pytest.mark.parametrize("name", GPU_PROFILES)
class TestFits:
    """T1.2: the transformed image is 36 texels high for every four channels: 16,384 are 455."""

    def test_up_to_1820_channels(self, name: str) -> None:
        assert 36 * 1820 / 4 < 16384 < 36 * 1824 / 4
        fits = profile(name).convolution_fits
        assert fits(1820, 640, 64, 64) and not fits(1821, 640, 64, 64)
        assert fits(640, 1820, 64, 64) and not fits(640, 1821, 64, 64)

    def test_any_size_where_winograd_is_not_run(self, name: str) -> None:
        fits = profile(name).convolution_fits
        assert fits(1920, 4, 64, 64) and fits(1920, 640, 4, 4)


def component(folder: Path, name: str) -> ComponentSpec:
    config = ConversionConfig(model=str(folder), targets=["tflite"])
    return open_model(config).component(name)


class TestTables:
    """A table of embeddings above the limit is cut; a profile without one leaves it whole."""

    @pytest.mark.parametrize(("limit", "parts"), [(0, 1), (-1, 2), (+1, 1)])
    def test_only_above_the_limit(self, sd1_folder: Path, limit: int, parts: int) -> None:
        spec = component(sd1_folder, "text_encoder")
        source = spec.load()
        size = 4 * source.get_input_embeddings().weight.numel()
        limited = dataclasses.replace(profile("gpu"), table_limit=limit and size + limit)
        network = android_form(spec, source, limited).network
        names = [n for n, _ in network.named_parameters() if "token_embedding" in n]
        assert len(names) == parts


@pytest.fixture(scope="module")
def unet(sd1_folder: Path) -> ComponentSpec:
    return component(sd1_folder, "unet")


class TestSplits:
    @pytest.mark.parametrize(("widest", "count"), [(128, 0), (127, 1), (64, 3)])
    def test_exactly_the_convolutions_above_the_limit(
        self, unet: ComponentSpec, widest: int, count: int
    ) -> None:
        limited = dataclasses.replace(
            profile("gpu"), image_limit=36 * (widest // 4), winograd=Winograd(1, 1)
        )
        source = unet.load()
        above = {
            name
            for name, module in source.named_modules()
            if isinstance(module, nn.Conv2d)
            and (module.kernel_size, module.stride) == ((3, 3), (1, 1))
            and max(module.in_channels, module.out_channels) > widest
        }
        form = android_form(unet, source, limited)
        assert {split.name for split in form.splits} == above and len(above) == count
        for split in form.splits:
            assert split.along == "input" and max(split.parts) <= widest
            assert sum(split.parts) == split.channels_in

    @pytest.mark.parametrize("name", PROFILES)
    def test_none_in_a_small_network(self, unet: ComponentSpec, name: str) -> None:
        assert android_form(unet, unet.load(), profile(name)).splits == ()

    def test_a_limit_that_no_split_can_meet_is_the_users_error(self, unet: ComponentSpec) -> None:
        tiny = dataclasses.replace(profile("gpu"), image_limit=35, winograd=Winograd(1, 1))
        with pytest.raises(UserError, match="does not fit, however it is split"):
            android_form(unet, unet.load(), tiny)
