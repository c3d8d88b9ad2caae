"""Compare the weights decoded from a saved file with what the solver decided."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.compress.plan import Palettization, weight_digest
from coreml_sd.errors import CoremlSDError


def verify_decoded(
    weights: Iterable[tuple[str, NDArray[Any]]], palettization: Palettization, where: str
) -> int:
    """Find every palette's decoded weight in the file, bit for bit; returns how many.

    Raises:
        CoremlSDError: a weight is missing or differs, named.
    """
    held = {
        weight_digest(value.astype(np.float16))
        for _, value in weights
        if value.dtype == np.float16 and value.ndim >= 2
    }
    for parameter, digest in palettization.by_parameter.items():
        if weight_digest(palettization.by_digest[digest].decode()) not in held:
            raise CoremlSDError(f"{where}: {parameter} is not stored as its palette says")
    return len(palettization.by_parameter)
