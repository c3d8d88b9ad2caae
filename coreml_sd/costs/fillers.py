"""Constants that a file stores but that no training made."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

_GLANCE = 64  # values that tell almost every weight from a filler


def is_filler(values: NDArray[Any]) -> bool:
    """Whether a constant is one value throughout: a factor of a rewrite, or the zero bias that an
    exporter gives to a convolution."""
    flat = values.reshape(-1)
    if not flat.size or (flat[:_GLANCE] != flat[0]).any():
        return not flat.size
    return bool((flat == flat[0]).all())
