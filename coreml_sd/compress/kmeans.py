"""Exact k-means in one dimension, weighted by counts.

Sorted values make every optimal cluster an interval, and the best start of the last interval
never moves left when the end moves right, so one dynamic programme with divide and conquer finds
the optimum in O(k n log n). Source: Wang and Song, "Ckmeans.1d.dp: optimal k-means clustering in
one dimension by dynamic programming", The R Journal 3/2, 2011; the divide and conquer is the one
of its later versions (Song and Zhong, Bioinformatics 36, 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coreml_sd.compress.compiled import compiled


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
    starts = _solve(
        _anchored_sums(weights, anchor),
        _anchored_sums(weights * centred, anchor),
        _anchored_sums(weights * centred * centred, anchor),
        k,
    )
    return _centroids(values, weights, starts)


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


@compiled
def _solve(
    w: NDArray[np.float64], s: NDArray[np.float64], q: NDArray[np.float64], k: int
) -> NDArray[np.int64]:
    """First index of each of the k intervals, from prefix sums of 1, x and x*x (n + 1 long)."""
    n = w.size - 1
    best = np.empty(n + 1)
    following = np.empty(n + 1)
    choice = np.zeros((k, n + 1), dtype=np.uint16)
    best[0] = 0.0
    for j in range(1, n + 1):
        sum_x = s[j] - s[0]
        best[j] = max(q[j] - q[0] - sum_x * sum_x / (w[j] - w[0]), 0.0)
    # A depth-first stack of (lowest end, highest end, lowest start, highest start).
    stack = np.empty((64, 4), dtype=np.int64)
    for m in range(1, k):
        # m + 1 intervals end at j: at least m + 1 values to the left, and enough to the right.
        stack[0] = m + 1, n - (k - 1 - m), m, n - (k - 1 - m) - 1
        if m == k - 1:
            stack[0, 0] = n
        top = 1
        while top:
            top -= 1
            low, high, first, last = stack[top]
            j = (low + high) // 2
            least = np.inf
            at = first
            for i in range(first, min(last, j - 1) + 1):
                sum_x = s[j] - s[i]
                cost = best[i] + max(q[j] - q[i] - sum_x * sum_x / (w[j] - w[i]), 0.0)
                if cost < least:
                    least = cost
                    at = i
            following[j] = least
            choice[m, j] = at
            if low < j:
                stack[top] = low, j - 1, first, at
                top += 1
            if j < high:
                stack[top] = j + 1, high, at, last
                top += 1
        best, following = following, best
    starts = np.zeros(k, dtype=np.int64)
    end = n
    for m in range(k - 1, 0, -1):
        end = int(choice[m, end])
        starts[m] = end
    return starts
