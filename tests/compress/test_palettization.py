"""Which weights become palettes, and how the reference gets the same ones."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from coreml_sd.compress.choose import stored_bytes
from coreml_sd.compress.palettization import palettize_module
from coreml_sd.compress.supported import PaletteSpec
from coreml_sd.errors import UserError
from coreml_sd.models.weights.values import ModuleWeights


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(50, 32)
        self.conv = nn.Conv2d(32, 48, 3)
        self.norm = nn.LayerNorm(48)
        self.linear = nn.Linear(48, 40)
        self.tiny = nn.Linear(40, 3)


@pytest.fixture
def module() -> Small:
    return Small().eval()


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def test_matrices_become_palettes_and_the_small_stay_fp16(module: Small) -> None:
    records = {r.parameter: r for r in palettize_module(module, PaletteSpec(6)).records}
    assert set(records) == {"embedding.weight", "conv.weight", "linear.weight", "tiny.weight"}
    assert records["conv.weight"].bits == 6
    assert records["conv.weight"].stored_bytes < records["conv.weight"].dense_bytes / 2
    assert (records["tiny.weight"].bits, records["tiny.weight"].reason) == (16, "too small to gain")
    assert records["tiny.weight"].stored_bytes == records["tiny.weight"].dense_bytes
    assert records["tiny.weight"].snr_db == math.inf


def test_progress_counts_up_to_the_end(module: Small) -> None:
    seen: list[tuple[int, int]] = []
    palettize_module(module, PaletteSpec(4), lambda done, of: seen.append((done, of)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_record_says_where_groups_could_not_be_as_asked(module: Small) -> None:
    spec = PaletteSpec(2, "per-grouped-channel", 16)
    records = {r.parameter: r for r in palettize_module(module, spec).records}
    assert (records["conv.weight"].groups, records["conv.weight"].reason) == (3, "")
    assert records["linear.weight"].groups == 4
    assert records["linear.weight"].reason == "groups of 10: 16 does not divide 40 channels"
    assert records["embedding.weight"].groups == 5


def test_tables_that_would_outweigh_the_weights_are_not_made(module: Small) -> None:
    spec = PaletteSpec(8, "per-grouped-channel", 2)
    palettization = palettize_module(module, spec)
    records = {r.parameter: r for r in palettization.records}
    assert records["linear.weight"].groups == 1
    assert "tables for groups of 2 would cost more" in records["linear.weight"].reason
    assert all(r.stored_bytes <= r.dense_bytes for r in palettization.records)


def test_what_the_file_holds_instead_of_each_parameter(module: Small) -> None:
    palettization = palettize_module(module, PaletteSpec(4))
    weight = module.conv.weight.detach()
    expected = palettization.by_parameter["conv.weight"].decoded(weight.half().numpy())
    assert np.array_equal(palettization.decoded("conv.weight", weight), expected)
    assert module.conv.bias is not None
    for name, parameter in (("conv.bias", module.conv.bias), ("tiny.weight", module.tiny.weight)):
        assert torch.equal(palettization.decoded(name, parameter), parameter.half())


@pytest.mark.parametrize(
    "spec",
    [
        PaletteSpec(6),
        PaletteSpec(8, "per-grouped-channel", 2),
        PaletteSpec(4, "per-grouped-channel", 16),
    ],
)
def test_the_size_is_known_before_a_weight_is_read(module: Small, spec: PaletteSpec) -> None:
    for record in palettize_module(module, spec).records:
        assert stored_bytes(record.shape, spec) == record.stored_bytes
        assert stored_bytes(record.shape, None) == record.dense_bytes


def test_weights_come_from_where_they_lie(module: Small) -> None:
    """The same palettes for a network without weights, whose values are elsewhere."""
    expected = palettize_module(module, PaletteSpec(4)).by_parameter
    empty = Small().to("meta")
    found = palettize_module(empty, PaletteSpec(4), weights=ModuleWeights(module), workers=2)
    for name, palette in found.by_parameter.items():
        assert np.array_equal(palette.lut, expected[name].lut)
    assert list(found.by_parameter) == list(expected)


def test_broken_weights_are_named(module: Small) -> None:
    with torch.no_grad():
        module.conv.weight[0, 0, 0, 0] = math.nan
    with pytest.raises(UserError, match=r"^conv\.weight holds NaN or inf"):
        palettize_module(module, PaletteSpec(4))


def test_weights_beyond_fp16_are_named(module: Small) -> None:
    with torch.no_grad():
        module.linear.weight[0, 0] = 7e4
    with pytest.raises(UserError, match=r"^linear\.weight: largest weight 70000 does not fit"):
        palettize_module(module, PaletteSpec(4))
