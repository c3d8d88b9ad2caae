"""How far two tensors are apart, in the one measure used everywhere."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def psnr_db(reference: ArrayLike, value: ArrayLike) -> float:
    """Peak signal to noise ratio in dB: 20 log10(max|reference| / rmse); inf when equal.

    NaN or inf anywhere gives -inf, so that a gate can never be passed by a broken tensor.

    Raises:
        ValueError: the shapes differ.
    """
    expected = np.asarray(reference, dtype=np.float64)
    actual = np.asarray(value, dtype=np.float64)
    if expected.shape != actual.shape:
        raise ValueError(f"shapes differ: {expected.shape} and {actual.shape}")
    if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
        return -math.inf
    rmse = math.sqrt(float(np.mean(np.square(expected - actual)))) if expected.size else 0.0
    if rmse == 0.0:
        return math.inf
    peak = float(np.max(np.abs(expected)))
    return 20.0 * math.log10(peak / rmse) if peak > 0.0 else -math.inf
