"""The cheapest way to cut n sorted values into k intervals; an interval costs its squared error.

All that is compiled for it stands in this file: numba keeps compiled code on disk, and does not
renew it where a function that it calls has changed in another file.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from coreml_sd.compress.compiled import compiled, compiled_within

Sums = NDArray[np.float64]  # (n + 1, 3): those of the counts, the values and their squares so far

_MOST_PRICES = 24
_MOST_VALUES = 1 << 16  # a start is kept in 16 bits
_COARSE = 16  # places for each cut while the price is found roughly


def cheapest_by_price(sums: Sums, k: int, price: float) -> NDArray[np.int64] | None:
    """First index of each of the `k` intervals, or None where no price gives k of them.

    With a price on every interval, beside its error, the cheapest partition into any number of
    intervals takes O(n log n); where it has k of them, none with k is cheaper. The error is convex
    in k, so that there is such a price unless one interval more saves what the next one saves.
    Source: Grønlund, Larsen, Mathiasen, Nielsen, Schneider and Song, "Fast exact k-means,
    k-medians and Bregman divergence clustering in 1D", arXiv:1701.07204, 2017.

    Args:
        price: where to begin; it may be wrong by orders of magnitude.

    Raises:
        ValueError: as `cheapest_by_layers`.
    """
    n = len(sums) - 1
    step = n // (_COARSE * k)
    if step > 1:
        rough, _ = _search(sums[np.append(np.arange(0, n, step), n)], k, price)
        price = rough or price
    _, starts = _search(sums, k, price)
    return starts if starts.size == k else None


def _check_search(sums: Sums, k: int, price: float) -> None:
    _check_layers(sums, k)


def _check_layers(sums: Sums, k: int) -> None:
    if sums.ndim != 2 or sums.shape[1] != 3 or sums.dtype != np.float64:
        raise ValueError(f"sums are (n + 1, 3) in float64, not {sums.shape} in {sums.dtype}")
    if not 1 <= k <= len(sums) - 1 <= _MOST_VALUES:
        raise ValueError(f"{k} intervals of {len(sums) - 1} values")


@compiled_within(_check_search)
def _search(sums: Sums, k: int, price: float) -> tuple[float, NDArray[np.int64]]:
    """A price that gives k intervals, and their starts; 0 and none where it is not found."""
    low, high = 0.0, np.inf
    for _ in range(_MOST_PRICES):
        starts = _cheapest(sums, price)
        count = starts.size
        if count == k:
            return price, starts
        if count > k:
            low = price
        else:
            high = price
        price *= (count / k) ** 3  # the error falls with the square of k
        if not low < price < high:
            price = math.sqrt(low * high)
    return 0.0, np.empty(0, dtype=np.int64)


@compiled
def _cheapest(sums: Sums, price: float) -> NDArray[np.int64]:
    """Starts of the cheapest partition where every interval costs its error and the price.

    Of two starts of the last interval the later one, once it is better, stays better as the end
    moves right. So a queue holds the starts that will be best, and from which end on. Source:
    Galil and Park, "Dynamic programming with convexity, concavity and sparsity", Theoretical
    Computer Science 92, 1992.
    """
    n = len(sums) - 1
    best = np.zeros(n + 1)
    previous = np.zeros(n + 1, dtype=np.int64)
    start = np.zeros(n + 1, dtype=np.int64)
    since = np.zeros(n + 1, dtype=np.int64)
    head = tail = 0
    for j in range(1, n + 1):
        while head < tail and since[head + 1] <= j:
            head += 1
        i = start[head]
        previous[j] = i
        best[j] = best[i] + _cost(sums, i, j) + price
        if j == n:
            break
        while tail > head and _better(sums, best, j, start[tail], max(since[tail], j + 1)):
            tail -= 1
        first = _first_better(sums, best, j, start[tail], max(since[tail], j + 1))
        if first <= n:
            tail += 1
            start[tail] = j
            since[tail] = first
    count = 0
    j = n
    while j > 0:
        j = previous[j]
        count += 1
    starts = np.empty(count, dtype=np.int64)
    j = n
    for m in range(count - 1, -1, -1):
        j = previous[j]
        starts[m] = j
    return starts


@compiled
def _first_better(sums: Sums, best: NDArray[np.float64], j: int, i: int, end: int) -> int:
    """The first end, from `end` on, for which start j is better than i; beyond n where none is."""
    n = len(sums) - 1
    low, high = end - 1, end  # nearly always close by: the steps grow
    while not _better(sums, best, j, i, high):
        if high == n:
            return n + 1
        low, high = high, min(3 * high - 2 * low, n)
    while high - low > 1:
        middle = (low + high) // 2
        if _better(sums, best, j, i, middle):
            high = middle
        else:
            low = middle
    return high


@compiled
def _better(sums: Sums, best: NDArray[np.float64], j: int, i: int, end: int) -> bool:
    return bool(best[j] + _cost(sums, j, end) < best[i] + _cost(sums, i, end))


@compiled_within(_check_layers)
def cheapest_by_layers(sums: Sums, k: int) -> NDArray[np.int64]:
    """First index of each of the `k` intervals: one interval, then two, and so on up to k.

    The best start of the last interval never moves left when its end moves right, so that divide
    and conquer takes O(k n log n). Source: Wang and Song, "Ckmeans.1d.dp: optimal k-means
    clustering in one dimension by dynamic programming", The R Journal 3/2, 2011; the divide and
    conquer is the one of its later versions (Song and Zhong, Bioinformatics 36, 2020).

    Raises:
        ValueError: fewer values than intervals, more than 65,536, or sums of another shape.
    """
    n = len(sums) - 1
    best = np.empty(n + 1)
    following = np.empty(n + 1)
    choice = np.zeros((k, n + 1), dtype=np.uint16)
    best[0] = 0.0
    for j in range(1, n + 1):
        best[j] = _cost(sums, 0, j)
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
                cost = best[i] + _cost(sums, i, j)
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


@compiled
def _cost(sums: Sums, start: int, end: int) -> float:
    """Squared error of the values start to end - 1 about their mean."""
    count = sums[end, 0] - sums[start, 0]
    total = sums[end, 1] - sums[start, 1]
    return max(0.0, float(sums[end, 2] - sums[start, 2] - total * total / count))
