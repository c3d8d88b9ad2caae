"""The cheapest intervals: the quick way by a price against the way by layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coreml_sd.compress import kmeans
from coreml_sd.compress.intervals import cheapest_by_layers, cheapest_by_price
from coreml_sd.compress.kmeans import kmeans_1d

Starts = NDArray[np.int64]


def prefix_sums(values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    terms = np.stack([counts, counts * values, counts * values * values], axis=1)
    return np.concatenate([np.zeros((1, 3)), np.cumsum(terms, axis=0)])


def drawn(seed: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    values = np.unique(rng.standard_t(4, size).astype(np.float16)).astype(np.float64)
    return values, rng.integers(1, 100, values.size)


def error(values: NDArray[np.float64], counts: NDArray[np.int64], starts: Starts) -> float:
    total = 0.0
    for begin, end in zip(starts, [*starts[1:], values.size], strict=True):
        v, c = values[begin:end], counts[begin:end]
        total += float(np.sum(c * (v - np.average(v, weights=c)) ** 2))
    return total


@pytest.mark.parametrize("k", [1, 2, 5, 16, 64, 256])
@pytest.mark.parametrize("size", [300, 5_000, 60_000])
def test_both_ways_find_the_same_intervals(size: int, k: int) -> None:
    sums = prefix_sums(*drawn(k, size))
    found = cheapest_by_price(sums, k, price=1.0)
    assert found is not None
    assert found.tolist() == cheapest_by_layers(sums, k).tolist()


@pytest.mark.parametrize("price", [1e-9, 1e9])
def test_a_price_that_is_far_off_is_mended(price: float) -> None:
    sums = prefix_sums(*drawn(3, 5_000))
    found = cheapest_by_price(sums, 16, price)
    assert found is not None
    assert found.tolist() == cheapest_by_layers(sums, 16).tolist()


def test_no_price_gives_a_number_of_intervals_that_saves_what_the_next_one_saves() -> None:
    pairs = np.array([0.0, 1.0, 10.0, 11.0, 20.0, 21.0])
    ones = np.ones(6, dtype=np.int64)
    sums = prefix_sums(pairs, ones)
    assert cheapest_by_price(sums, 3, price=1.0) is not None
    assert cheapest_by_price(sums, 4, price=1.0) is None
    found = kmeans_1d(pairs, ones, 4)
    assert found.squared_error == pytest.approx(error(pairs, ones, cheapest_by_layers(sums, 4)))
    assert found.squared_error == pytest.approx(1.0)


def test_nearly_all_weights_are_solved_by_price(monkeypatch: pytest.MonkeyPatch) -> None:
    layered = []

    def by_layers(sums: Any, k: int) -> Any:
        layered.append(k)
        return cheapest_by_layers(sums, k)

    monkeypatch.setattr(kmeans, "cheapest_by_layers", by_layers)
    for seed in range(20):
        kmeans_1d(*drawn(seed, 20_000), 64)
    assert layered == []


def test_negative_control_another_partition_is_dearer() -> None:
    values, counts = drawn(0, 5_000)
    starts = cheapest_by_layers(prefix_sums(values, counts), 16)
    moved = starts.copy()
    moved[8] += 3
    assert error(values, counts, moved) > error(values, counts, starts)
