"""The histogram of fp16 weights: at most 65,536 different values, however many weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coreml_sd.compress.compiled import compiled_within, require_flat
from coreml_sd.errors import UserError

PATTERNS = 1 << 16

_SIGN = 0x8000
_INFINITY = 0x7C00


@dataclass(frozen=True)
class Histogram:
    """The distinct values of a tensor.

    `values`: float64, ascending, -0 and +0 merged; `counts`: int64, how often each occurs.
    """

    values: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def peak(self) -> float:
        """Largest magnitude."""
        return float(max(abs(self.values[0]), abs(self.values[-1])))

    @property
    def total(self) -> int:
        """Number of weights counted."""
        return int(self.counts.sum())


def bit_patterns(weight: NDArray[np.float16]) -> NDArray[np.uint16]:
    """The weights as flat unsigned 16-bit patterns (a view where the memory allows it)."""
    return np.ascontiguousarray(weight, dtype=np.float16).reshape(-1).view(np.uint16)


def histogram(weight: NDArray[np.float16], name: str = "weight") -> Histogram:
    """Count the distinct values of `weight` (any shape, at least one element).

    Raises:
        UserError: the weight holds NaN or infinity, or nothing at all; the message has `name`.
    """
    counts = _count_patterns(bit_patterns(weight))
    magnitude = np.arange(PATTERNS) & ~_SIGN
    for broken, what in ((magnitude > _INFINITY, "NaN"), (magnitude == _INFINITY, "infinity")):
        found = int(counts[broken].sum())
        if found:
            raise UserError(f"{name}: {found} weights are {what}; the model file is damaged")
    counts[0] += counts[_SIGN]
    counts[_SIGN] = 0
    ascending = np.concatenate([np.arange(_INFINITY - 1 + _SIGN, _SIGN, -1), np.arange(_INFINITY)])
    present = ascending[counts[ascending] > 0]
    if present.size == 0:
        raise UserError(f"{name}: the tensor is empty")
    values = present.astype(np.uint16).view(np.float16).astype(np.float64)
    return Histogram(values=values, counts=counts[present])


def _check_count(patterns: NDArray[np.uint16]) -> None:
    require_flat(patterns, np.uint16, 0)


@compiled_within(_check_count)
def _count_patterns(patterns: NDArray[np.uint16]) -> NDArray[np.int64]:
    # Two tables: neighbouring equal weights would otherwise wait for each other's increment.
    even = np.zeros(65536, dtype=np.int64)
    odd = np.zeros(65536, dtype=np.int64)
    for i in range(0, patterns.size - 1, 2):
        even[patterns[i]] += 1
        odd[patterns[i + 1]] += 1
    if patterns.size % 2:
        even[patterns[-1]] += 1
    return even + odd
