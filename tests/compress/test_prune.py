"""Pruning: the smallest channels of the largest layers go, and nothing else changes."""

import copy
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from coreml_sd.compress.prune import prune_module
from coreml_sd.compress.source_network import open_source
from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.metrics import psnr_db
from coreml_sd.mobile import mobile_form
from coreml_sd.mobile.measure import network_costs
from coreml_sd.models.component import TensorSpec
from coreml_sd.models.open_model import open_model
from coreml_sd.models.published import PublishedUNet

GROUPS = 8
FACTS = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": GROUPS,
}
SD2 = {"use_linear_projection": True, "attention_head_dim": [2, 4]}
# Residual blocks of 32 channels have none to spare; their feed-forwards of 128 have 64.
FEED_FORWARD_ONLY = {"block_out_channels": (32, 32)}


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


def make_unet(**changes: Any) -> UNet2DConditionModel:
    torch.manual_seed(0)
    network = UNet2DConditionModel(**{**FACTS, **changes}).eval()
    for parameter in network.parameters():
        if parameter.ndim == 1:  # fresh norms (1 and 0) would hide a swapped weight
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return network


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(3)
    return torch.randn(2, 4, 8, 8), torch.full((2,), 731.0), torch.randn(2, 24, 1, 77)


def run(network: nn.Module) -> torch.Tensor:
    return PublishedUNet(network)(*inputs())[0]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def owned(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Channels of each block and the parameters of one, counted by their shapes."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, FeedForward):
            width, inner = module.net[2].weight.shape
            found[name] = inner, 2 * (width + 1) + width
        elif isinstance(module, ResnetBlock2D):
            out, inner = module.conv2.weight.shape[:2]
            taken = module.conv1.weight.shape[1]
            time = module.time_emb_proj.weight.shape[1]
            found[name] = inner, 9 * taken + 1 + time + 1 + 2 + 9 * out
    return found


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.2])
def test_the_asked_fraction_goes_within_one_block_of_channels(fraction: float) -> None:
    network = make_unet()
    before = parameters(network)
    largest_block = 32 * max(cost for _, cost in owned(network).values())
    report = prune_module(network, fraction)
    assert (report.parameters_before, report.parameters_after) == (before, parameters(network))
    assert fraction <= report.removed < fraction + largest_block / before


def test_shapes_are_really_smaller_and_attributes_agree() -> None:
    network = make_unet()
    before = owned(network)
    report = prune_module(network, 0.4)
    after = owned(network)
    changed = {name for name in before if before[name] != after[name]}
    assert {layer.kind for layer in report.layers} == {"feed-forward", "residual"}
    assert {layer.name for layer in report.layers} == changed
    for layer in report.layers:
        assert layer.channels_before == before[layer.name][0]
        assert layer.channels_after == after[layer.name][0] < layer.channels_before
        assert (layer.channels_before - layer.channels_after) % 32 == 0
        assert layer.channels_after >= layer.channels_before / 2
    for module in network.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
        elif isinstance(module, nn.Conv2d):
            assert module.weight.shape[:2] == (module.out_channels, module.in_channels)
        elif isinstance(module, nn.GroupNorm):
            assert module.weight.shape == module.bias.shape == (module.num_channels,)
            assert module.num_channels % module.num_groups == 0


def test_the_largest_layer_is_touched_first() -> None:
    sizes = {name: channels * cost for name, (channels, cost) in owned(make_unet()).items()}
    report = prune_module(make_unet(), 1e-6)
    assert [layer.name for layer in report.layers] == [max(sizes, key=sizes.__getitem__)]


def test_no_layer_is_touched_while_a_larger_one_has_channels_to_spare() -> None:
    network = make_unet(block_out_channels=(64, 192))  # up to three blocks of channels each
    before = owned(network)
    report = prune_module(network, 0.1)
    taken = {layer.name: layer.channels_before - layer.channels_after for layer in report.layers}
    left = {
        name: (channels - taken.get(name, 0)) * cost
        for name, (channels, cost) in before.items()
        if channels - taken.get(name, 0) - 32 >= channels / 2
    }
    for name, count in taken.items():
        channels, cost = before[name]
        before_its_last_block = (channels - count + 32) * cost
        assert before_its_last_block >= max(left.values())


def test_groups_lose_evenly_even_where_one_holds_all_small_channels() -> None:
    network = make_unet()
    (layer,) = prune_module(copy.deepcopy(network), 1e-6).layers
    block = network.get_submodule(layer.name)
    small = slice(0, layer.channels_before // GROUPS)
    for part in (block.conv1, block.time_emb_proj, block.norm2):
        part.weight[small] *= 1e-3
    block.conv2.weight[:, small] *= 1e-3
    block.time_emb_proj.bias.copy_(torch.arange(layer.channels_before))
    block.time_emb_proj.bias.mul_(1e-4)  # a mark, too small to matter for the norms
    prune_module(network, 1e-6)
    kept = (block.time_emb_proj.bias * 1e4).round().int()
    groups = kept // (layer.channels_before // GROUPS)
    assert groups.bincount().tolist() == [layer.channels_after // GROUPS] * GROUPS
    assert torch.equal(kept, kept.sort().values)


@pytest.mark.parametrize("changes", [{}, SD2], ids=["sd1", "sd2"])
@pytest.mark.parametrize("fraction", [0.05, 0.4])
def test_the_mobile_form_takes_the_pruned_network(changes: dict, fraction: float) -> None:
    network = make_unet(**changes)
    specs = [
        TensorSpec(name, tuple(tensor.shape), "float32", "")
        for name, tensor in zip(
            ("sample", "timestep", "encoder_hidden_states"), inputs(), strict=True
        )
    ]
    macs = network_costs(mobile_form("unet", network), specs).macs
    prune_module(network, fraction)
    mobile = mobile_form("unet", network)
    assert psnr_db(run(network), mobile(*inputs())[0]) >= 100
    assert network_costs(mobile, specs).macs < macs


def test_what_cannot_be_reached_is_reported_as_it_is() -> None:
    network = make_unet(**FEED_FORWARD_ONLY)
    report = prune_module(network, 0.4)
    assert 0 < report.removed < 0.4
    assert report.parameters_after == parameters(network)
    assert all(2 * layer.channels_after == layer.channels_before for layer in report.layers)


def test_pruning_is_deterministic_and_the_report_is_json() -> None:
    first, second = make_unet(), make_unet()
    reports = [prune_module(network, 0.1) for network in (first, second)]
    assert reports[0] == reports[1]
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    tree = json.loads(json.dumps(dataclasses.asdict(reports[0])))
    assert tree["layers"][0].keys() == {"name", "kind", "channels_before", "channels_after"}


def test_only_the_unet_is_pruned(sd1_folder: Path) -> None:
    model = open_model(ConversionConfig(model=str(sd1_folder)))
    for component in model.components:
        pruned = open_source(component, 0.1).pruning
        assert (pruned is not None) == (component.name == "unet")


@pytest.mark.parametrize("fraction", [0.0, -0.1, 0.41, 1.0, math.nan, math.inf])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(UserError, match=r"prune = .*above 0 and up to 0\.4"):
        prune_module(make_unet(), fraction)


def test_a_network_with_nothing_to_spare_is_refused() -> None:
    narrow = make_unet(block_out_channels=(8, 8), norm_num_groups=4)
    with pytest.raises(UserError, match="no layer of the unet has 32 channels to spare"):
        prune_module(narrow, 0.1)
    with pytest.raises(UserError, match="no plain feed-forward or residual block"):
        prune_module(nn.Linear(64, 64), 0.1)


class TestDeadFeedForwardChannels:
    """Channels that no one reads can go without a trace, wherever they lie."""

    @staticmethod
    def output_distance(scale_of_rows: float) -> float:
        """dB between a network whose dead channels have rows of this scale, and the pruned one."""
        network = make_unet(**FEED_FORWARD_ONLY)
        blocks = [module for module in network.modules() if isinstance(module, FeedForward)]
        generator = torch.Generator().manual_seed(5)
        for block in blocks:
            dead = torch.randperm(128, generator=generator)[:32]
            block.net[2].weight[:, dead] = 0
            for rows in (dead, dead + 128):
                block.net[0].proj.weight[rows] *= scale_of_rows
                block.net[0].proj.bias[rows] *= scale_of_rows
        expected = run(network)
        one_block_of_each = len(blocks) * 32 * (2 * 33 + 32) / parameters(network)
        report = prune_module(network, 0.999 * one_block_of_each)
        assert [layer.channels_after for layer in report.layers] == [96] * len(blocks)
        return psnr_db(expected, run(network))

    def test_they_go_and_the_output_stays(self) -> None:
        assert self.output_distance(0.1) >= 100

    def test_negative_control_other_channels_go_where_the_dead_have_large_weights(self) -> None:
        assert self.output_distance(10.0) < 60


class MaskedGroupNorm(nn.Module):
    """Group norm whose statistics see only the kept channels; the others become zero."""

    def __init__(self, source: nn.GroupNorm, kept: torch.Tensor) -> None:
        super().__init__()
        self.source, self.kept = source, kept

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(x)
        size = self.source.num_channels // self.source.num_groups
        for group in range(self.source.num_groups):
            members = self.kept[self.kept // size == group]
            part = x[:, members]
            mean = part.mean(dim=(1, 2, 3), keepdim=True)
            variance = part.var(dim=(1, 2, 3), keepdim=True, correction=0)
            normal = (part - mean) / torch.sqrt(variance + self.source.eps)
            weight, bias = self.source.weight[members], self.source.bias[members]
            out[:, members] = normal * weight[:, None, None] + bias[:, None, None]
        return out


class TestResidualChannels:
    """Group norm mixes channels, so even a dead one leaves a trace: in the group's statistics.

    The pruned network equals the whole one whose norm leaves the removed channels out of count.
    """

    @staticmethod
    def distance(shift: int) -> float:
        """dB to the reference with all kept channels moved by `shift`."""
        network = make_unet()
        (layer,) = prune_module(copy.deepcopy(network), 1e-6).layers
        assert layer.kind == "residual"
        assert (layer.channels_before, layer.channels_after) == (64, 32)
        block = network.get_submodule(layer.name)
        generator = torch.Generator().manual_seed(6)
        order = torch.stack([torch.randperm(8, generator=generator) for _ in range(GROUPS)])
        of_group = 8 * torch.arange(GROUPS)[:, None]
        small, kept = ((part + of_group).flatten() for part in order.split(4, dim=1))
        for part in (block.conv1, block.time_emb_proj, block.norm2):
            part.weight[small] *= 0.5
            part.bias[small] *= 0.5
        block.conv2.weight[:, small] *= 0.5
        masked = copy.deepcopy(network)
        reference = masked.get_submodule(layer.name)
        reference.norm2 = MaskedGroupNorm(reference.norm2, (kept + shift) % 64)
        prune_module(network, 1e-6)
        return psnr_db(run(masked), run(network))

    def test_equals_the_network_that_leaves_them_out(self) -> None:
        assert self.distance(shift=0) >= 100

    def test_negative_control_other_channels_left_out(self) -> None:
        assert self.distance(shift=1) < 60
