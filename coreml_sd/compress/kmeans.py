"""Exact k-means in one dimension, weighted by counts.

Sorted values make every optimal cluster an interval, so that the best clustering is the cheapest
way to cut the values into k intervals (`compress.intervals`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coreml_sd.compress.intervals import cheapest_by_layers, cheapest_by_price


@dataclass(frozen=True)
class Clustering:
    """`centroids`: float64, ascending; `squared_error`: sum of count * (value - centroid)**2."""

    centroids: NDArray[np.float64]
    squared_error: float


def kmeans_1d(values: NDArray[np.float64], counts: NDArray[np.int64], k: int) -> Clustering:
    """The best `k` centroids (fewer when there are fewer values) for ascending distinct `values`.

    Raises:
        ValueError: k below 1, no values or more than 65,535, values not strictly ascending, or a
            count below 1.
    """
    if k < 1 or not 1 <= values.size < 1 << 16 or values.shape != counts.shape:
        raise ValueError(f"k = {k}, values {values.shape}, counts {counts.shape}")
    if np.any(np.diff(values) <= 0) or np.any(counts < 1):
        raise ValueError("values must ascend strictly and every count be at least 1")
    if values.size <= k:
        return Clustering(centroids=values.copy(), squared_error=0.0)
    # Sums anchored at the weighted median and grown outwards hold, at every position, only values
    # nearer to the median than that position: a far outlier never drowns the sums of the bulk.
    anchor = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    centred = values - values[anchor]
    weights = counts.astype(np.float64)
    terms = (weights, weights * centred, weights * centred * centred)
    sums = np.stack([_anchored_sums(each, anchor) for each in terms], axis=1)
    starts = cheapest_by_price(sums, k, _last_gain(values, weights, k))
    if starts is None:
        starts = cheapest_by_layers(sums, k)
    return _centroids(values, weights, starts)


def _last_gain(values: NDArray[np.float64], weights: NDArray[np.float64], k: int) -> float:
    """Roughly what the k-th cluster takes from the error, as if the values were dense.

    Source: Panter and Dite, "Quantization distortion in pulse-count modulation with nonuniform
    spacing of levels", Proceedings of the IRE 39, 1951.
    """
    spacing = np.gradient(values)
    return float(np.sum(np.cbrt(weights * spacing * spacing)) ** 3 / (6 * k**3))


def _centroids(
    values: NDArray[np.float64], weights: NDArray[np.float64], starts: NDArray[np.int64]
) -> Clustering:
    """Means of the intervals and their error, summed directly (no difference of large sums)."""
    ends = np.append(starts[1:], values.size)
    sizes = ends - starts
    # Centring at each interval's own first value keeps the mean of near-equal values exact.
    origin = values[starts]
    offset = values - np.repeat(origin, sizes)
    means = np.add.reduceat(weights * offset, starts) / np.add.reduceat(weights, starts)
    residual = offset - np.repeat(means, sizes)
    return Clustering(
        centroids=origin + means, squared_error=float(np.sum(weights * residual * residual))
    )


def _anchored_sums(terms: NDArray[np.float64], anchor: int) -> NDArray[np.float64]:
    """P with P[j] - P[i] = sum(terms[i:j]) and P[anchor] = 0."""
    left = -np.cumsum(terms[:anchor][::-1])[::-1]
    right = np.cumsum(terms[anchor:])
    return np.concatenate([left, np.zeros(1), right])
