"""The histogram counts every fp16 value and refuses what is not a number."""

import numpy as np
import pytest

from coreml_sd.compress.histogram import histogram
from coreml_sd.errors import UserError


def test_it_agrees_with_sorting() -> None:
    weight = np.random.default_rng(0).standard_normal((64, 33, 3)).astype(np.float16)
    values, counts = np.unique(weight, return_counts=True)
    counted = histogram(weight)
    assert np.array_equal(counted.values, values.astype(np.float64))
    assert np.array_equal(counted.counts, counts)
    assert counted.total == weight.size
    assert counted.peak == np.abs(weight).max()


def test_every_finite_value_of_fp16_has_its_place() -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    counted = histogram(patterns[np.isfinite(patterns)])
    assert np.all(np.diff(counted.values) > 0)
    assert counted.values.size == 63_487
    assert (counted.values[0], counted.values[-1]) == (-65504.0, 65504.0)


def test_minus_zero_is_zero() -> None:
    counted = histogram(np.array([-0.0, 0.0, -0.0, 1.0], dtype=np.float16))
    assert counted.values.tolist() == [0.0, 1.0]
    assert counted.counts.tolist() == [3, 1]


def test_memory_order_does_not_matter() -> None:
    weight = np.random.default_rng(1).standard_normal((8, 6)).astype(np.float16)
    assert np.array_equal(histogram(weight.T).counts, histogram(weight).counts)


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_a_broken_weight_is_named(bad: float, word: str) -> None:
    weight = np.zeros((4, 4), dtype=np.float16)
    weight[2, 1] = -bad
    with pytest.raises(UserError, match=f"^unet.conv_in.weight: 1 weights are {word}"):
        histogram(weight, "unet.conv_in.weight")


def test_an_empty_weight_is_named() -> None:
    with pytest.raises(UserError, match="empty_one: the tensor is empty"):
        histogram(np.zeros((0, 3), dtype=np.float16), "empty_one")


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_last_weight_of_any_number_is_counted(count: int) -> None:
    found = histogram(np.arange(count, dtype=np.float16))
    assert found.values.tolist() == list(range(count)) and found.total == count
