"""Sub-byte indices as bytes: least significant bit first, as Core ML stores them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coreml_sd.compress.compiled import compiled_within, require_flat, require_width
from coreml_sd.compress.histogram import PATTERNS


def packed_size(count: int, bits: int) -> int:
    """Bytes of `count` indices of `bits` bits."""
    return (count * bits + 7) // 8


def count_wrong_indices(
    packed: NDArray[np.uint8], bits: int, patterns: NDArray[np.uint16], table: NDArray[np.uint8]
) -> int:
    """How many of the packed indices are not `table[pattern]` of their weight's bit pattern.

    Reads each index where the format says that it lies, not the way it was written.

    Raises:
        ValueError: no such width, or arrays of other kinds or too small.
    """
    return int(_wrong(packed, np.uint64(bits), patterns, table))


def _check_wrong(
    packed: NDArray[np.uint8],
    bits: np.uint64,
    patterns: NDArray[np.uint16],
    table: NDArray[np.uint8],
) -> None:
    require_width(int(bits))
    require_flat(patterns, np.uint16, 0)
    require_flat(packed, np.uint8, packed_size(patterns.size, int(bits)))
    require_flat(table, np.uint8, PATTERNS)


@compiled_within(_check_wrong)
def _wrong(
    packed: NDArray[np.uint8],
    bits: np.uint64,
    patterns: NDArray[np.uint16],
    table: NDArray[np.uint8],
) -> int:
    byte = np.uint64(8)  # signed numbers beside unsigned ones would become floats
    mask = (np.uint64(1) << bits) - np.uint64(1)
    wrong = 0
    for i in range(np.uint64(patterns.size)):
        at, shift = i * bits // byte, i * bits % byte
        word = np.uint64(packed[at])
        if shift + bits > byte:
            word |= np.uint64(packed[at + np.uint64(1)]) << byte
        wrong += ((word >> shift) & mask) != np.uint64(table[patterns[i]])
    return wrong


def _check_pack(
    patterns: NDArray[np.uint16],
    table: NDArray[np.uint8],
    bits: int,
    packed: NDArray[np.uint8],
    first: int,
) -> None:
    require_width(bits)
    if first < 0:
        raise ValueError(f"the first index cannot be number {first}")
    require_flat(patterns, np.uint16, 0)
    require_flat(table, np.uint8, PATTERNS)
    require_flat(packed, np.uint8, packed_size(first + patterns.size, bits))


@compiled_within(_check_pack)
def pack_looked_up(
    patterns: NDArray[np.uint16],
    table: NDArray[np.uint8],
    bits: int,
    packed: NDArray[np.uint8],
    first: int,
) -> None:
    """Pack `table[pattern]` of each pattern in `bits` bits, least significant bit first.

    The first of them becomes number `first` of `packed`, whose bits are 0 from there on.

    Raises:
        ValueError: no such width, or arrays of other kinds or too small.
    """
    at = (first * bits) >> 3
    filled = (first * bits) & 7
    pending = np.uint64(packed[at]) if filled else np.uint64(0)
    for pattern in patterns:
        pending |= np.uint64(table[pattern]) << np.uint64(filled)
        filled += bits
        if filled >= 32:
            for byte in range(4):
                packed[at + byte] = np.uint8((pending >> np.uint64(8 * byte)) & np.uint64(255))
            at += 4
            pending >>= np.uint64(32)
            filled -= 32
    while filled > 0:
        packed[at] = np.uint8(pending & np.uint64(255))
        at += 1
        pending >>= np.uint64(8)
        filled -= 8
