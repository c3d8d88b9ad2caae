"""Serialized convolutions: split only where a profile asks, in as few parts, with equal numbers."""

import copy
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.metrics import psnr_db
from coreml_sd.mobile import mobile_form
from coreml_sd.mobile.serialized_conv import (
    Along,
    SerializedConv,
    SplitRecord,
    even_split,
    serialize_convolutions,
)
from coreml_sd.mobile.steps import Step, StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.targets.tflite.profiles import profile

ADRENO = profile("adreno7xx").convolution_fits


def one_conv(conv: nn.Module, channels: int, size: int) -> tuple[StepSequence, list[TensorSpec]]:
    network = StepSequence([Step("conv", conv, ("x",), ("y",))], ["x"], ["y"])
    return network, [TensorSpec("x", (1, channels, size, size), "float32", "")]


def unet_specs(size: int = 8, width: int = 24) -> list[TensorSpec]:
    shapes = {
        "sample": (2, 4, size, size),
        "timestep": (2,),
        "encoder_hidden_states": (2, width, 1, 77),
    }
    return [TensorSpec(name, shape, "float32", "") for name, shape in shapes.items()]


def random_inputs(specs: list[TensorSpec]) -> list[torch.Tensor]:
    torch.manual_seed(3)
    return [torch.randn(spec.shape) for spec in specs]


class TestExactness:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize(
        ("along", "sizes"), [("input", (16, 20, 12)), ("output", (4, 16)), ("output", (8, 8, 4))]
    )
    def test_equals_the_source(self, along: Along, sizes: tuple[int, ...], bias: bool) -> None:
        source = nn.Conv2d(48, 20, 3, padding=1, bias=bias)
        x = torch.randn(2, 48, 7, 5)
        assert psnr_db(source(x), SerializedConv(source, sizes, along)(x)) >= 100

    def test_stride_and_padding_are_the_sources(self) -> None:
        source = nn.Conv2d(8, 8, 5, stride=2, padding=1, padding_mode="reflect")
        x = torch.randn(1, 8, 9, 9)
        assert psnr_db(source(x), SerializedConv(source, (4, 4))(x)) >= 100

    @pytest.mark.parametrize("along", ["input", "output"])
    def test_the_parts_view_the_weights_of_the_source(self, along: Along) -> None:
        source = nn.Conv2d(8, 8, 3)
        for parameter in SerializedConv(source, (4, 4), along).parameters():
            owner = source.weight if parameter.ndim == 4 else source.bias
            storage = owner.untyped_storage().data_ptr()
            assert parameter.untyped_storage().data_ptr() == storage

    def test_negative_control_the_bias_added_with_every_part(self) -> None:
        source = nn.Conv2d(8, 8, 3)
        split = SerializedConv(source, (4, 4))
        assert source.bias is not None
        split.parts[1].bias = source.bias
        x = torch.randn(1, 8, 6, 6)
        assert psnr_db(source(x), split(x)) < 60

    @pytest.mark.parametrize("along", ["input", "output"])
    def test_negative_control_parts_in_another_order(self, along: Along) -> None:
        source = nn.Conv2d(8, 8, 3, bias=False)
        split = SerializedConv(source, (4, 4), along)
        split.parts = nn.ModuleList([split.parts[1], split.parts[0]])
        x = torch.randn(1, 8, 6, 6)
        assert psnr_db(source(x), split(x)) < 60

    def test_refuses_what_it_cannot_split(self) -> None:
        with pytest.raises(CoremlSDError, match="8 input channels cannot be split"):
            SerializedConv(nn.Conv2d(8, 8, 3), (4, 8))
        with pytest.raises(CoremlSDError, match="cannot be split"):
            SerializedConv(nn.Conv2d(8, 8, 3, groups=2), (4, 4))
        with pytest.raises(UserError, match="layer of type Linear"):
            SerializedConv(nn.Linear(8, 8), (4, 4))


class TestHowManyParts:
    """arXiv 2307.01193: 1x32x32x1920 -> 1x32x32x640 takes 2 parts along the input, 8 along the
    output."""

    @pytest.mark.parametrize(("along", "parts"), [("input", (960,) * 2), ("output", (80,) * 8)])
    def test_the_case_of_the_paper(self, along: Along, parts: tuple[int, ...]) -> None:
        network, specs = one_conv(nn.Conv2d(1920, 640, 3, padding=1, device="meta"), 1920, 32)
        network.to_empty(device="cpu")
        records = serialize_convolutions(network, specs, ADRENO, along)
        assert records == [SplitRecord("conv", 1920, 640, 32, 32, along, parts)]

    @pytest.mark.parametrize(
        ("channels_in", "channels_out", "size"), [(1820, 640, 32), (1920, 640, 16), (1920, 64, 32)]
    )
    def test_neighbours_that_fit_stay(self, channels_in: int, channels_out: int, size: int) -> None:
        conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        network, specs = one_conv(conv, channels_in, size)
        assert serialize_convolutions(network, specs, ADRENO) == []
        assert network.conv is network.steps[0].module is conv

    @pytest.mark.parametrize(
        ("limit", "parts"), [(32, (32, 32)), (31, (16,) * 4), (24, (16,) * 4), (4, (4,) * 16)]
    )
    def test_the_fewest_equal_parts_are_taken(self, limit: int, parts: tuple[int, ...]) -> None:
        network, specs = one_conv(nn.Conv2d(64, 8, 3, padding=1), 64, 4)
        (record,) = serialize_convolutions(network, specs, lambda i, *_: i <= limit)
        assert record.parts == parts

    def test_uneven_parts_where_none_are_equal(self) -> None:
        network, specs = one_conv(nn.Conv2d(4 * 19, 8, 3, padding=1), 4 * 19, 4)
        (record,) = serialize_convolutions(network, specs, lambda i, *_: i <= 40)
        assert record.parts == (36, 40)

    @pytest.mark.parametrize(
        ("channels", "count", "parts"),
        [(640, 8, (80,) * 8), (640, 3, (212, 212, 216)), (10, 2, (4, 6))],
    )
    def test_even_split(self, channels: int, count: int, parts: tuple[int, ...]) -> None:
        assert even_split(channels, count) == parts

    def test_a_convolution_that_never_fits_is_named(self) -> None:
        network, specs = one_conv(nn.Conv2d(16, 8, 3, padding=1), 16, 4)
        with pytest.raises(UserError, match="conv: a convolution of 16 to 8 channels at 4x4"):
            serialize_convolutions(network, specs, lambda *_: False)


class TestWholeNetworks:
    def test_exactly_one_convolution_of_stable_diffusion_needs_it(self) -> None:
        with torch.device("meta"):
            network = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        network.to_empty(device="cpu")  # 3.4 GB by name only: nothing ever touches the weights
        asked = []

        def fits(*shape: int) -> bool:
            asked.append(shape)
            return ADRENO(*shape)

        records = serialize_convolutions(mobile_form("unet", network), unet_specs(64, 768), fits)
        assert [(r.name, r.parts) for r in records] == [("up_blocks.2.resnets.0.conv1", (960, 960))]
        # 52 are 3x3, three of them of stride 2; the last two questions are those of the parts.
        assert len(asked) == 49 + 2

    @pytest.mark.parametrize("along", ["input", "output"])
    def test_a_split_network_gives_the_same_numbers(self, make_unet: Any, along: Along) -> None:
        network = mobile_form("unet", make_unet())
        specs = unet_specs()
        inputs = random_inputs(specs)
        expected = network(*inputs)[0]

        def fits(channels_in: int, channels_out: int, height: int, width: int) -> bool:
            return (channels_in if along == "input" else channels_out) <= 24

        records = serialize_convolutions(network, specs, fits, along)
        # Single steps are split as well as the convolutions inside of one.
        assert {"conv_out" if along == "input" else "conv_in", "mid_block.resnets.0.conv1"} <= {
            record.name for record in records
        }
        assert psnr_db(expected, network(*inputs)[0]) >= 100
        names = dict(network.named_parameters())
        assert "mid_block.resnets.0.conv1.parts.1.weight" in names
        assert "mid_block.resnets.0.conv1.weight" not in names
        pool = dict(zip(network.inputs, inputs, strict=True))
        for piece in network.cut([len(network.steps) // 2]):
            results = piece(*(pool[name] for name in piece.inputs))
            pool.update(zip(piece.outputs, results, strict=True))
        assert psnr_db(expected, pool["noise_pred"]) >= 100

    def test_nothing_is_split_where_all_fit(self, make_unet: Any) -> None:
        network = mobile_form("unet", make_unet())
        before = dict(network.named_modules())
        assert serialize_convolutions(network, unet_specs(), ADRENO) == []
        assert dict(network.named_modules()) == before

    def test_only_3x3_convolutions_of_stride_1_are_asked_about(self) -> None:
        kinds = [
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.Conv2d(8, 8, 3, padding=1, groups=2),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Conv2d(8, 8, 5, padding=2),
        ]
        steps = [Step(f"s{i}", conv, (f"x{i}",), (f"x{i + 1}",)) for i, conv in enumerate(kinds)]
        network = StepSequence(steps, ["x0"], [f"x{len(kinds)}"])
        specs = [TensorSpec("x0", (1, 8, 12, 20), "float32", "")]
        asked = []

        def fits(*shape: int) -> bool:
            asked.append(shape)
            return True

        serialize_convolutions(network, specs, fits)
        assert asked == [(8, 8, 6, 10)]

    def test_the_source_network_is_not_changed(self, make_unet: Any) -> None:
        source = make_unet()
        before = copy.deepcopy(source.state_dict())
        serialize_convolutions(mobile_form("unet", source), unet_specs(), lambda i, *_: i <= 24)
        after = source.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
