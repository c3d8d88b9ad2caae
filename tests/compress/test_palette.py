"""A palette decodes to the nearest fp16 centroids, and says what it costs."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from coreml_sd.compress.bits import count_wrong_indices, pack_looked_up, packed_size
from coreml_sd.compress.histogram import bit_patterns
from coreml_sd.compress.palette import (
    PaletteSolver,
    fitting_group_size,
    index_of_pattern,
    palettize,
)
from coreml_sd.compress.supported import PALETTE_BITS, PaletteSpec
from coreml_sd.errors import UserError
from coreml_sd.metrics import psnr_db


def gaussian(*shape: int, seed: int = 0) -> NDArray[np.float16]:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.05).astype(np.float16)


def squared_error(weight: NDArray[np.float16], decoded: NDArray[np.float16]) -> float:
    return float(np.sum((weight.astype(np.float64) - decoded.astype(np.float64)) ** 2))


@pytest.mark.parametrize("bits", PALETTE_BITS)
def test_error_and_decibels_are_those_of_the_decoded_weight(bits: int) -> None:
    weight = gaussian(24, 20, 3, 3)
    palette = palettize(weight, PaletteSpec(bits))
    decoded = palette.decoded(weight)
    assert decoded.dtype == np.float16 and decoded.shape == weight.shape
    assert palette.lut.shape == (1, 1 << bits) and palette.lut.dtype == np.float16
    indices = palette.indices(weight)
    assert indices.shape == weight.shape and indices.dtype == np.uint8
    assert palette.squared_error == pytest.approx(squared_error(weight, decoded), rel=1e-12)
    assert palette.snr_db == pytest.approx(psnr_db(weight, decoded), abs=1e-9)


@pytest.mark.parametrize("bits", PALETTE_BITS)
def test_every_weight_has_the_nearest_entry(bits: int) -> None:
    weight = gaussian(50, 40)
    palette = palettize(weight, PaletteSpec(bits))
    table = palette.lut[0].astype(np.float64)
    nearest = np.abs(weight.astype(np.float64)[..., None] - table).min(axis=-1)
    chosen = np.abs(weight.astype(np.float64) - palette.decoded(weight).astype(np.float64))
    assert np.array_equal(chosen, nearest)


def test_few_distinct_values_are_kept_exactly() -> None:
    weight = np.random.default_rng(3).choice(np.array([-1.5, 0.1, 2.0], np.float16), size=(16, 16))
    palette = palettize(weight, PaletteSpec(2))
    assert np.array_equal(palette.decoded(weight), weight)
    assert palette.squared_error == 0.0 and palette.snr_db == math.inf


def test_zeros_of_both_signs_decode_to_one_value() -> None:
    weight = np.array([[0.0, -0.0], [1.0, -1.0]], dtype=np.float16)
    palette = palettize(weight, PaletteSpec(2))
    indices = palette.indices(weight)
    assert indices[0, 0] == indices[0, 1]
    assert np.array_equal(palette.decoded(weight), weight)


def test_subnormals_survive() -> None:
    weight = (np.arange(64, dtype=np.uint16) * 7).view(np.float16).reshape(8, 8)
    assert np.array_equal(palettize(weight, PaletteSpec(6)).decoded(weight), weight)


def test_each_group_has_the_palette_of_its_rows() -> None:
    weight = gaussian(12, 7, 3, 3)
    weight[4:8] *= 20
    palette = palettize(weight, PaletteSpec(3, "per-grouped-channel", 4))
    assert palette.lut.shape == (3, 8) and palette.group_size == 4
    rows = [weight[i : i + 4] for i in (0, 4, 8)]
    alone = [palettize(part, PaletteSpec(3)) for part in rows]
    parts = [one.decoded(part) for one, part in zip(alone, rows, strict=True)]
    assert np.array_equal(palette.decoded(weight), np.concatenate(parts))
    assert palette.squared_error == pytest.approx(sum(part.squared_error for part in alone))
    assert palette.squared_error < palettize(weight, PaletteSpec(3)).squared_error


@pytest.mark.parametrize(
    ("channels", "wanted", "expected"),
    [
        (64, 16, 16),
        (40, 16, 10),  # the largest divisor that is at least half as large
        (34, 16, None),  # 2 would be: far more tables than asked for
        (37, 16, None),
        (4, 16, None),  # fewer channels than a group: one palette is the same
        (16, 16, None),
        (8, 1, 1),
    ],
)
def test_groups_divide_the_channels(channels: int, wanted: int, expected: int | None) -> None:
    assert fitting_group_size(channels, wanted) == expected
    palette = palettize(gaussian(channels, 9), PaletteSpec(2, "per-grouped-channel", wanted))
    assert palette.group_size == expected
    assert palette.groups == (channels // expected if expected else 1)


def test_equal_histograms_share_one_solve() -> None:
    solver = PaletteSolver()
    weight = gaussian(32, 32)
    shuffled = np.random.default_rng(1).permutation(weight.reshape(-1)).reshape(32, 32)
    first = solver.palettize(weight, PaletteSpec(6))
    second = solver.palettize(shuffled, PaletteSpec(6))
    assert solver.solves == 1
    assert np.array_equal(first.lut, second.lut)
    solver.palettize(weight, PaletteSpec(4))
    solver.palettize(gaussian(32, 32, seed=9), PaletteSpec(6))
    assert solver.solves == 3


def test_threads_give_the_same_palettes() -> None:
    weights = [gaussian(30, 30, seed=i % 4) for i in range(16)]
    solver = PaletteSolver()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda w: solver.palettize(w, PaletteSpec(4)), weights))
    assert solver.solves == 4
    for weight, palette in zip(weights, together, strict=True):
        assert np.array_equal(palette.lut, palettize(weight, PaletteSpec(4)).lut)


def test_a_broken_weight_fails_for_every_caller() -> None:
    solver = PaletteSolver()
    weight = np.full((4, 4), np.nan, dtype=np.float16)
    for _ in range(2):
        with pytest.raises(UserError, match=r"layer\.weight"):
            solver.palettize(weight, PaletteSpec(4), "layer.weight")


def test_only_fp16_is_taken() -> None:
    with pytest.raises(TypeError, match="float16"):
        palettize(np.zeros((4, 4), np.float32), PaletteSpec(4))


def test_bytes_count_alignment_and_records() -> None:
    palette = palettize(gaussian(100, 10), PaletteSpec(6))
    assert palette.stored_bytes == (64 + 768) + (64 + 128)  # 750 bytes of indices, 128 of table
    assert palette.dense_bytes == 64 + 2048


@pytest.mark.parametrize("count", [1, 7, 8, 100, 1001])
@pytest.mark.parametrize("bits", PALETTE_BITS)
def test_packing_is_that_of_coremltools(bits: int, count: int) -> None:
    from coremltools.optimize._utils import (
        pack_elements_into_bits,
        restore_elements_from_packed_bits,
    )

    rng = np.random.default_rng(count)
    table = rng.integers(0, 1 << bits, 1 << 16).astype(np.uint8)
    patterns = rng.integers(0, 1 << 16, count).astype(np.uint16)
    packed = np.zeros(packed_size(count, bits), np.uint8)
    begun = count // 3  # in two pieces, of which the second may begin inside a byte
    pack_looked_up(patterns[:begun], table, bits, packed, 0)
    pack_looked_up(patterns[begun:], table, bits, packed, begun)
    assert np.array_equal(packed, pack_elements_into_bits(table[patterns], bits))
    restored = restore_elements_from_packed_bits(packed, bits, count)
    assert np.array_equal(restored, table[patterns])


@pytest.mark.parametrize("spec", [PaletteSpec(3), PaletteSpec(3, "per-grouped-channel", 2)])
def test_a_palette_packs_its_indices(spec: PaletteSpec) -> None:
    from coremltools.optimize._utils import pack_elements_into_bits

    weight = gaussian(6, 5)  # rows of 10 indices, of 30 bits
    palette = palettize(weight, spec)
    expected = pack_elements_into_bits(palette.indices(weight).reshape(-1), 3)
    assert np.array_equal(palette.packed(weight), expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_no_palette_of_coremltools_has_a_lower_error(bits: int) -> None:
    from coremltools.optimize.coreml._quantization_passes import palettize_weights

    weight = gaussian(120, 100)  # above 10,000: the exact solver of coremltools
    lut, indices = palettize_weights._get_lut_and_indices(weight, "KMEANS", bits, None)
    theirs = squared_error(weight, lut.reshape(-1)[indices.reshape(-1)].reshape(weight.shape))
    # Both round their centroids to fp16, which can favour either by far less than this.
    assert palettize(weight, PaletteSpec(bits)).squared_error <= theirs * (1 + 1e-6)


@pytest.mark.parametrize("bits", PALETTE_BITS)
def test_a_wrong_index_is_counted_wherever_it_lies(bits: int) -> None:
    from coremltools.optimize._utils import pack_elements_into_bits

    weight = gaussian(5, 7)
    palette = palettize(weight, PaletteSpec(bits))
    indices, patterns = palette.indices(weight), bit_patterns(weight)
    table = index_of_pattern(palette.lut[0])
    assert count_wrong_indices(palette.packed(weight), bits, patterns, table) == 0
    for place in ((0, 0), (2, 3), (4, 6)):
        changed = indices.copy()
        changed[place] ^= 1
        packed = pack_elements_into_bits(changed.reshape(-1), bits)
        assert count_wrong_indices(packed, bits, patterns, table) == 1


def test_half_way_goes_down() -> None:
    """As the file's readers take it: 0.5 between 0 and 1 is 0."""
    table = index_of_pattern(np.array([0.0, 1.0], np.float16))
    values = np.array([0.4995, 0.5, 0.5005], np.float16)
    assert table[bit_patterns(values)].tolist() == [0, 0, 1]


def test_other_counts_are_another_solve() -> None:
    """The same three values, of which two share an entry: which two their counts say."""
    solver = PaletteSolver()
    for counts, lut in (((9, 1, 1), [0.0, 1.5]), ((1, 1, 9), [0.5, 2.0])):
        weight = np.repeat(np.array([0.0, 1.0, 2.0], np.float16), counts)
        assert solver.palettize(weight, PaletteSpec(1)).lut.tolist() == [lut]
    assert solver.solves == 2


@pytest.mark.parametrize("loud", [0, 1])
def test_the_peak_is_that_of_all_groups(loud: int) -> None:
    weight = gaussian(8, 40)
    weight[4 * loud : 4 * loud + 4] *= 20
    palette = palettize(weight, PaletteSpec(3, "per-grouped-channel", 4))
    assert palette.groups == 2
    assert palette.snr_db == pytest.approx(psnr_db(weight, palette.decoded(weight)), abs=1e-9)
