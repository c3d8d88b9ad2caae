"""Which weights become palettes, and how the reference gets the same ones."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from coreml_sd.compress.limits import PaletteSpec
from coreml_sd.compress.plan import palettize_module, weight_digest
from coreml_sd.compress.verify import verify_decoded
from coreml_sd.compress.weights import replaced_weights
from coreml_sd.errors import CoremlSDError, UserError


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


def test_the_reference_carries_the_weights_of_the_file(module: Small) -> None:
    before = state(module)
    palettization = palettize_module(module, PaletteSpec(4))
    decoded = palettization.by_digest[palettization.by_parameter["conv.weight"]].decode()
    with palettization.applied_to(module):
        assert np.array_equal(module.conv.weight.detach().numpy(), decoded.astype(np.float32))
        assert torch.equal(module.conv.bias, before["conv.bias"].half().float())
        assert torch.equal(module.tiny.weight, before["tiny.weight"].half().float())
    assert all(torch.equal(value, before[name]) for name, value in state(module).items())


def test_weights_return_after_an_error_and_when_storage_is_shared(module: Small) -> None:
    module.twin = nn.Linear(48, 40)
    module.twin.weight = nn.Parameter(module.linear.weight.detach())
    before = state(module)
    with pytest.raises(RuntimeError), replaced_weights(module):
        raise RuntimeError
    assert all(torch.equal(value, before[name]) for name, value in state(module).items())
    assert not torch.equal(before["linear.weight"], before["linear.weight"].half().float())


def test_the_fp16_reference_rounds_everything(module: Small) -> None:
    before = state(module)
    with replaced_weights(module):
        for name, value in module.named_parameters():
            assert torch.equal(value, before[name].half().float())


def test_axes_of_length_one_do_not_change_the_digest() -> None:
    weight = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float16)
    assert weight_digest(weight) == weight_digest(weight[:, :, None, None])
    changed = weight.copy()
    changed[0, 0] += 1
    assert weight_digest(changed) != weight_digest(weight)


def test_a_piece_gets_its_own_palettes(module: Small) -> None:
    whole = palettize_module(module, PaletteSpec(4))
    piece = nn.Module()
    piece.conv = module.conv
    part = whole.restricted_to(piece)
    assert set(part.by_parameter) == {"conv.weight"}
    assert [record.parameter for record in part.records] == ["conv.weight"]
    assert len(part.by_digest) == 1


def test_weights_of_equal_values_share_a_palette() -> None:
    module = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 64))
    for layer in module:
        nn.init.zeros_(layer.weight)
    palettization = palettize_module(module, PaletteSpec(4, "per-grouped-channel", 16))
    assert len(palettization.by_digest) == 1
    assert {record.squared_error for record in palettization.records} == {0.0}
    with palettization.applied_to(module):
        assert not module[1].weight.any()


def test_broken_weights_are_named(module: Small) -> None:
    with torch.no_grad():
        module.conv.weight[0, 0, 0, 0] = math.nan
    with pytest.raises(UserError, match=r"^conv\.weight: 1 weights are NaN"):
        palettize_module(module, PaletteSpec(4))


def test_weights_beyond_fp16_are_named(module: Small) -> None:
    with torch.no_grad():
        module.linear.weight[0, 0] = 7e4
    with pytest.raises(UserError, match=r"^linear\.weight: largest weight 70000 does not fit"):
        palettize_module(module, PaletteSpec(4))


@pytest.mark.parametrize("damage", ["index", "table", "groups", "missing", "none"])
def test_a_file_that_differs_from_the_decision_is_found(module: Small, damage: str) -> None:
    palettization = palettize_module(module, PaletteSpec(4, "per-grouped-channel", 16))
    held = {
        name: palettization.by_digest[digest].decode()
        for name, digest in palettization.by_parameter.items()
    }
    palette = palettization.by_digest[palettization.by_parameter["conv.weight"]]
    weight = held["conv.weight"]
    if damage == "index":
        other = (int(palette.indices[5, 1, 2, 0]) + 1) % 16
        weight[5, 1, 2, 0] = palette.lut[0, other]
    elif damage == "table":
        weight[:16][palette.indices[:16] == 3] = np.nextafter(palette.lut[0, 3], np.float16(9))
    elif damage == "groups":
        held["conv.weight"] = np.concatenate([weight[16:32], weight[:16], weight[32:]])
    elif damage == "missing":
        del held["conv.weight"]
    if damage == "none":
        assert verify_decoded(held.items(), palettization, "Unet.mlpackage") == 3
        return
    with pytest.raises(CoremlSDError, match=r"Unet\.mlpackage: conv\.weight is not stored as"):
        verify_decoded(held.items(), palettization, "Unet.mlpackage")
