"""Packed indices to values, in compiled loops over slices of the threads that torch may use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coreml_sd.compress.compiled import compiled_within, require_flat, require_width
from coreml_sd.compress.supported import PALETTE_BITS
from coreml_sd.errors import UserError

Array = NDArray[Any]
_GROUP = 3  # bytes after which every width that divides 24 bits starts at bit 0 again
_SMALL = 1 << 16  # values; below this a thread costs more than it saves


def unpack(
    packed: NDArray[np.uint8], bits: int, count: int, *, signed: bool = False
) -> NDArray[Any]:
    """`count` indices of `bits` bits each, least significant bit first, one byte each.

    Raises:
        UserError: no such width, or fewer bytes than that many indices need.
    """
    _require_indices(packed, bits, count)
    if bits == 8:
        return packed[:count]
    values = np.arange(1 << bits, dtype=np.int16)
    if signed:
        half = 1 << (bits - 1)
        values = (values ^ half) - half
    return look_up(packed, bits, count, values.astype(np.int8 if signed else np.uint8))


def look_up(packed: NDArray[np.uint8], bits: int, count: int, table: Array) -> Array:
    """`table[index]` for `count` packed indices of 1, 2, 3, 4, 6 or 8 bits, in one pass.

    Raises:
        UserError: no such width, fewer bytes than that many indices need, or a table of another
            size.
    """
    needed = _require_indices(packed, bits, count)
    if table.size != 1 << bits:
        raise UserError(f"a table of {table.size} entries for {bits} bits; convert again")
    per_group = 8 * _GROUP // bits
    whole = count // per_group
    rest = np.zeros(_GROUP, dtype=np.uint8)
    rest[: needed - _GROUP * whole] = packed[_GROUP * whole : needed]
    # fp16 is no type of the compiled loop; patterns of the same width are.
    patterns = np.ascontiguousarray(table).view(f"u{table.dtype.itemsize}")
    values = np.empty(count, dtype=patterns.dtype)
    _in_slices(packed, bits, patterns, values, whole)
    last = np.empty(per_group, dtype=patterns.dtype)
    _expand(rest, bits, patterns, last, 0, 1)
    values[whole * per_group :] = last[: count - whole * per_group]
    return values.view(table.dtype)


def width_of(entries: int) -> int:
    """Bits of an index into a table.

    Raises:
        UserError: no width of indices has that many entries.
    """
    for bits in PALETTE_BITS:
        if entries == 1 << bits:
            return bits
    known = ", ".join(str(1 << bits) for bits in PALETTE_BITS)
    raise UserError(f"a palette of {entries} entries; Core ML has those of {known}; convert again")


def _require_indices(packed: Array, bits: int, count: int) -> int:
    """How many bytes `count` indices take."""
    if bits not in PALETTE_BITS:
        raise UserError(f"indices of {bits} bits; Core ML has none; convert again")
    needed = -(-count * bits // 8)
    if packed.ndim != 1 or packed.dtype != np.uint8:
        raise UserError(f"indices in {packed.dtype}, bytes are needed; convert again")
    if count < 0 or packed.size < needed:
        raise UserError(f"{packed.size} bytes of indices, {needed} are needed; convert again")
    return needed


def _in_slices(packed: Array, bits: int, table: Array, values: Array, groups: int) -> None:
    threads = torch.get_num_threads() if values.size > _SMALL else 1
    if threads == 1:
        _expand(packed, bits, table, values, 0, groups)
        return
    edges = [groups * n // threads for n in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(
            pool.map(
                lambda part: _expand(packed, bits, table, values, *part),
                pairwise(edges),
            )
        )


def _check_expand(
    packed: Array, bits: int, table: Array, values: Array, first: int, last: int
) -> None:
    require_width(bits)
    if first < 0:
        raise ValueError(f"the first group cannot be number {first}")
    require_flat(packed, np.uint8, _GROUP * last)
    require_flat(table, None, 1 << bits)
    require_flat(values, None, 8 * _GROUP // bits * last)


@compiled_within(_check_expand)
def _expand(packed: Array, bits: int, table: Array, values: Array, first: int, last: int) -> None:
    mask = np.uint32((1 << bits) - 1)
    per_group = 24 // bits
    for group in range(first, last):
        word = (
            np.uint32(packed[3 * group])
            | (np.uint32(packed[3 * group + 1]) << np.uint32(8))
            | (np.uint32(packed[3 * group + 2]) << np.uint32(16))
        )
        for place in range(per_group):
            values[per_group * group + place] = table[word & mask]
            word >>= np.uint32(bits)
