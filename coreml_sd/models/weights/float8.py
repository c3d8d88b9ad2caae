"""The values of 8-bit floats, of which numpy has none: each is a number in fp16.

Source: "FP8 Formats for Deep Learning", arXiv 2209.05433; E4M3 without infinities, as torch has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def _e5m2() -> NDArray[np.float16]:
    """The upper byte of an fp16."""
    return (np.arange(256, dtype=np.uint16) << np.uint16(8)).view(np.float16)


def _e4m3() -> NDArray[np.float16]:
    """Four bits of exponent with bias 7, three of mantissa; all ones are NaN."""
    byte = np.arange(256)
    exponent, mantissa = (byte >> 3) & 15, (byte & 7) / 8
    size = np.where(exponent == 0, mantissa * 2.0**-6, (1 + mantissa) * 2.0 ** (exponent - 7.0))
    size[(byte & 0x7F) == 0x7F] = np.nan
    return np.where(byte & 0x80, -size, size).astype(np.float16)


# The format's dtype name -> the value of each byte.
FLOAT8 = {"F8_E4M3": _e4m3(), "F8_E5M2": _e5m2()}
