"""Which weights are worth a palette, and of which form, known from their shapes alone."""

from __future__ import annotations

import math

from coreml_sd.compress.palette import blob_bytes, fitting_group_size, palette_bytes
from coreml_sd.compress.supported import PaletteSpec

# Below this gain a palette is not worth its tables and its op in the program (about 500 bytes).
_LEAST_GAIN = 0.1
_OP_BYTES = 512


def stored_bytes(shape: tuple[int, ...], spec: PaletteSpec | None) -> int:
    """Bytes in weight.bin of a weight of that shape, known before it is read."""
    chosen = affordable(shape, spec)[0] if spec else None
    if chosen is None:
        return blob_bytes(2 * math.prod(shape))
    size = fitting_group_size(shape[0], chosen.group_size) if chosen.group_size else None
    return palette_bytes(math.prod(shape), chosen.bits, shape[0] // size if size else 1)


def affordable(shape: tuple[int, ...], spec: PaletteSpec) -> tuple[PaletteSpec | None, str]:
    """The spec for one weight: as asked, or with one palette, or None for fp16; and why."""
    size = math.prod(shape)
    single = PaletteSpec(spec.bits)
    if not _gains(size, spec.bits, 1):
        return None, "too small to gain"
    if spec.group_size is None:
        return single, ""
    group_size = fitting_group_size(shape[0], spec.group_size)
    if shape[0] <= spec.group_size:
        return single, f"one palette: {shape[0]} channels are one group"
    if group_size is None:
        return single, f"one palette: no fitting group size divides {shape[0]} channels"
    if not _gains(size, spec.bits, shape[0] // group_size):
        return single, f"one palette: tables for groups of {group_size} would cost more than fp16"
    if group_size != spec.group_size:
        reason = f"groups of {group_size}: {spec.group_size} does not divide {shape[0]} channels"
        return spec, reason
    return spec, ""


def _gains(size: int, bits: int, groups: int) -> bool:
    dense = blob_bytes(2 * size)
    return palette_bytes(size, bits, groups) + _OP_BYTES < (1 - _LEAST_GAIN) * dense
