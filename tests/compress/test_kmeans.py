"""The clustering is the optimum: against brute force, a plain dynamic programme and coremltools."""

from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from coreml_sd.compress.histogram import histogram
from coreml_sd.compress.kmeans import kmeans_1d

Values = NDArray[np.float64]
Counts = NDArray[np.int64]


def _exact_cost(values: list[Fraction], counts: list[int]) -> Fraction:
    weight = sum(counts)
    mean = sum((v * c for v, c in zip(values, counts, strict=True)), Fraction(0)) / weight
    return sum((c * (v - mean) ** 2 for v, c in zip(values, counts, strict=True)), Fraction(0))


def brute_force(values: Values, counts: Counts, k: int) -> float:
    """Smallest error over all ways to cut the values into k intervals, in exact arithmetic."""
    exact, weights = [Fraction(v) for v in values], counts.tolist()
    best = None
    for cuts in combinations(range(1, len(exact)), k - 1):
        ends = pairwise([0, *cuts, len(exact)])
        cost = sum((_exact_cost(exact[a:b], weights[a:b]) for a, b in ends), Fraction(0))
        best = cost if best is None or cost < best else best
    assert best is not None
    return float(best)


def plain_programme(values: Values, counts: Counts, k: int) -> float:
    """The O(k n^2) recurrence, every interval's error summed directly."""
    n = values.size
    cost = np.zeros((n + 1, n + 1))
    for i in range(n):
        for j in range(i + 1, n + 1):
            v, c = values[i:j], counts[i:j]
            cost[i, j] = float(np.sum(c * (v - np.average(v, weights=c)) ** 2))
    best = cost[0].copy()
    for _ in range(k - 1):
        best = np.array([0.0, *(np.min(best[:j] + cost[:j, j]) for j in range(1, n + 1))])
    return float(best[n])


def error_of(values: Values, counts: Counts, centroids: Values) -> float:
    nearest = np.abs(values[:, None] - centroids[None]).min(axis=1)
    return float(np.sum(counts * nearest**2))


@pytest.mark.parametrize("seed", range(12))
def test_no_clustering_is_better_on_small_inputs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.unique(rng.standard_normal(10).astype(np.float16)).astype(np.float64)
    counts = rng.integers(1, 50, values.size)
    for k in range(1, values.size):
        found = kmeans_1d(values, counts, k)
        assert found.squared_error == pytest.approx(brute_force(values, counts, k), rel=1e-12)
        assert np.all(np.diff(found.centroids) > 0)


@pytest.mark.parametrize("k", [1, 2, 3, 8, 37, 64, 119])
def test_it_agrees_with_the_plain_recurrence(k: int) -> None:
    rng = np.random.default_rng(k)
    values = np.unique(rng.standard_t(2, 120).astype(np.float16)).astype(np.float64)
    counts = rng.integers(1, 1000, values.size)
    found = kmeans_1d(values, counts, k)
    expected = plain_programme(values, counts, k)
    assert found.squared_error == pytest.approx(expected, rel=1e-10, abs=1e-18)


def test_the_reported_error_is_that_of_the_centroids() -> None:
    rng = np.random.default_rng(5)
    counted = histogram((rng.standard_normal(20_000) * 0.03).astype(np.float16))
    found = kmeans_1d(counted.values, counted.counts, 64)
    direct = error_of(counted.values, counted.counts, found.centroids)
    assert found.squared_error == pytest.approx(direct, rel=1e-12)


@pytest.mark.parametrize("bits", [1, 4, 6, 8])
def test_its_error_is_no_higher_than_that_of_coremltools(bits: int) -> None:
    from coremltools._deps import kmeans1d

    rng = np.random.default_rng(bits)
    counted = histogram((rng.standard_normal(30_000) * 0.02).astype(np.float16))
    theirs = kmeans1d.cluster(counted.values, 1 << bits, weights=counted.counts)
    ours = kmeans_1d(counted.values, counted.counts, 1 << bits)
    their_error = error_of(counted.values, counted.counts, np.array(theirs.centroids))
    assert ours.squared_error <= their_error * (1 + 1e-12)


@pytest.mark.parametrize("outlier", [-65504.0, 65504.0])
def test_a_far_outlier_does_not_spoil_the_rest(outlier: float) -> None:
    rng = np.random.default_rng(7)
    bulk = histogram((rng.standard_normal(50_000) * 1e-4).astype(np.float16))
    alone = kmeans_1d(bulk.values, bulk.counts, 15)
    values = np.sort(np.append(bulk.values, outlier))
    counts = np.insert(bulk.counts, int(np.searchsorted(values, outlier)), 1)
    together = kmeans_1d(values, counts, 16)
    assert together.squared_error == pytest.approx(alone.squared_error, rel=1e-9)


def test_few_values_are_kept_as_they_are() -> None:
    values = np.array([-1.0, 0.25, 3.0])
    for k in (3, 4, 256):
        found = kmeans_1d(values, np.array([5, 1, 9]), k)
        assert found.centroids.tolist() == values.tolist()
        assert found.squared_error == 0.0


@pytest.mark.parametrize(
    ("values", "counts", "k"),
    [
        ([1.0, 2.0], [1, 1], 0),
        ([], [], 2),
        ([2.0, 1.0], [1, 1], 1),
        ([1.0, 1.0], [1, 1], 1),
        ([1.0, 2.0], [1, 0], 1),
    ],
)
def test_wrong_arguments_are_refused(values: list[float], counts: list[int], k: int) -> None:
    with pytest.raises(ValueError):
        kmeans_1d(np.array(values), np.array(counts, dtype=np.int64), k)
