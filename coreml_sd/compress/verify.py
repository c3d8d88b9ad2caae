"""Compare the weights in a saved file with the checkpoint and with what the solver decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coreml_sd.compress.bits import count_wrong_indices, packed_size
from coreml_sd.compress.histogram import bit_patterns
from coreml_sd.compress.palette import Palette, index_of_pattern
from coreml_sd.compress.weight_by_weight import for_each_weight
from coreml_sd.errors import CoremlSDError
from coreml_sd.models.weights.values import Weights, fp16_value


@dataclass(frozen=True)
class StoredPayload:
    """Where a weight's bytes lie in a weight file, as a reader of the saved program found it."""

    file: Path
    offset: int
    size: int
    element: str
    lut: NDArray[np.float16] | None


def verify_stored(
    stored: Mapping[str, StoredPayload],
    weights: Weights,
    palettes: Mapping[str, Palette],
    workers: int | None = None,
) -> int:
    """Read every layer's weight back and compare it, one for one; returns how many there are.

    A palettized weight must hold the solver's table and for each value of the checkpoint its index.
    Any other must hold the checkpoint's values in fp16.

    Raises:
        CoremlSDError: a weight differs, named.
    """

    def check(name: str) -> None:
        place = stored[name]
        # Read, not mapped: pages of a mapping count as memory of the process until its end.
        payload = np.fromfile(place.file, np.uint8, place.size, offset=place.offset)
        if not _same(payload, place, fp16_value(weights, name), palettes.get(name)):
            raise CoremlSDError(f"{place.file}: {name} is not stored as it was decided")

    for_each_weight(check, stored, workers)
    return len(stored)


def _same(
    payload: NDArray[np.uint8],
    place: StoredPayload,
    weight: NDArray[np.float16],
    palette: Palette | None,
) -> bool:
    patterns = bit_patterns(weight)
    if palette is None or place.lut is None:
        plain = palette is None and place.lut is None and place.element == "float16"
        return plain and np.array_equal(payload.view(np.uint16), patterns)
    if not np.array_equal(place.lut.reshape(palette.lut.shape), palette.lut):
        return False
    if payload.nbytes != packed_size(patterns.size, palette.bits):
        return False
    rows = patterns.reshape(palette.groups, -1)
    bits_per_row = rows.shape[1] * palette.bits
    wrong = 0
    for group, (row, lut) in enumerate(zip(rows, palette.lut, strict=True)):
        first = group * bits_per_row
        if first % 8:  # a group that begins inside a byte: from the last byte boundary on
            return bool((_unpacked(payload, palette) == palette.indices(weight).reshape(-1)).all())
        part = payload[first // 8 : (first + bits_per_row + 7) // 8]
        wrong += count_wrong_indices(part, palette.bits, row, index_of_pattern(lut))
    return wrong == 0


def _unpacked(payload: NDArray[np.uint8], palette: Palette) -> NDArray[np.generic]:
    size = payload.nbytes * 8 // palette.bits
    positions = np.arange(size)[:, None] * palette.bits + np.arange(palette.bits)
    found = np.unpackbits(payload, bitorder="little")[positions]
    count = int(np.prod(palette.shape))
    return (found @ (1 << np.arange(palette.bits)))[:count].astype(np.uint8)
