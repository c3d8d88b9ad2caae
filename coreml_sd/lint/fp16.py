"""The end of fp16, and how far stored values reach."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_FP16 = 65504.0


def peak(values: NDArray[Any]) -> float:
    """Largest magnitude of fp16 or fp32 values; inf or NaN where one is.

    Without the sign, the bits of floats are ordered as their magnitudes, NaN last; integers are
    compared many times as fast as fp16.
    """
    if not values.size:
        return 0.0
    whole = np.ascontiguousarray(values)
    unsigned = np.dtype(f"u{whole.dtype.itemsize}")
    magnitude = np.iinfo(unsigned).max >> 1
    bits = np.bitwise_and(whole.view(unsigned), unsigned.type(magnitude)).max()
    return float(bits.view(whole.dtype))
