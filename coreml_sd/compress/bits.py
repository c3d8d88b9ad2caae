"""Sub-byte indices as bytes: least significant bit first, as Core ML stores them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coreml_sd.compress.compiled import compiled


def packed_size(count: int, bits: int) -> int:
    """Bytes of `count` indices of `bits` bits."""
    return (count * bits + 7) // 8


def pack_bits(indices: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Flat bytes holding `indices` (any shape, row-major), each in `bits` bits, LSB first.

    Raises:
        ValueError: an index needs more than `bits` bits.
    """
    flat = np.ascontiguousarray(indices, dtype=np.uint8).reshape(-1)
    if flat.size and int(flat.max()) >> bits:
        raise ValueError(f"index {int(flat.max())} does not fit in {bits} bits")
    return flat.copy() if bits == 8 else _pack(flat, bits, packed_size(flat.size, bits))


def count_wrong_indices(
    packed: NDArray[np.uint8], bits: int, patterns: NDArray[np.uint16], table: NDArray[np.uint8]
) -> int:
    """How many of the packed indices are not `table[pattern]` of their weight's bit pattern.

    Reads each index where the format says that it lies, not the way it was written.
    """
    return int(_wrong(np.append(packed, np.uint8(0)), bits, patterns, table))


@compiled
def _wrong(
    packed: NDArray[np.uint8], bits: int, patterns: NDArray[np.uint16], table: NDArray[np.uint8]
) -> int:
    mask = (1 << bits) - 1
    wrong = 0
    for i in range(patterns.size):
        first = i * bits
        word = int(packed[first >> 3]) | (int(packed[(first >> 3) + 1]) << 8)
        if ((word >> (first & 7)) & mask) != int(table[patterns[i]]):
            wrong += 1
    return wrong


@compiled
def _pack(flat: NDArray[np.uint8], bits: int, size: int) -> NDArray[np.uint8]:
    packed = np.zeros(size, dtype=np.uint8)
    pending = np.uint32(0)
    filled = 0
    at = 0
    for index in flat:
        pending |= np.uint32(index) << np.uint32(filled)
        filled += bits
        if filled >= 8:
            packed[at] = np.uint8(pending & np.uint32(255))
            at += 1
            pending >>= np.uint32(8)
            filled -= 8
    if filled:
        packed[at] = np.uint8(pending)
    return packed
