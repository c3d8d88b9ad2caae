"""Write weight.bin: places are given out first, payloads may then be written in any order.

A 64-byte header (number of records, version), then for each value a 64-byte record (magic, element
code, payload bytes, payload offset, unused bits at its end) and the payload, both at multiples
of 64. `runtimes.mil.blob` reads it.
"""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 64
_HEADER = struct.Struct("<II")
_RECORD = struct.Struct("<IIQQQ")
_MAGIC = 0xDEADBEEF
_VERSION = 2
_CODES = {
    "float16": 1, "float32": 2, "uint8": 3, "int8": 4, "int16": 6, "uint16": 7,
    "uint1": 9, "uint2": 10, "uint4": 11, "uint3": 12, "uint6": 13, "int32": 14, "uint32": 15,
}  # fmt: skip


class WeightFile:
    """A weight file being written. Threads may write payloads at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records = 0
        self._end = _ALIGNMENT
        self._lock = threading.Lock()
        self._file = path.open("wb")

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._write(_HEADER.pack(self._records, _VERSION).ljust(_ALIGNMENT, b"\0"), 0)
            os.ftruncate(self._file.fileno(), self._end)
        self._file.close()

    def reserve(self, element: str, size: int, unused_bits: int = 0) -> int:
        """Give out the next place for `size` bytes; returns the record's offset, its address."""
        with self._lock:
            offset = self._end
            self._records += 1
            self._end = _aligned(offset + _ALIGNMENT + size)
        start = offset + _ALIGNMENT
        record = _RECORD.pack(_MAGIC, _CODES[element], size, start, unused_bits)
        self._write(record.ljust(_ALIGNMENT, b"\0"), offset)
        return offset

    def fill(self, offset: int, payload: NDArray[Any]) -> None:
        """Write the payload of a reserved place."""
        self._write(np.ascontiguousarray(payload).reshape(-1).view(np.uint8), offset + _ALIGNMENT)

    def add(self, payload: NDArray[Any]) -> int:
        """Reserve and fill at once."""
        offset = self.reserve(payload.dtype.name, payload.nbytes)
        self.fill(offset, payload)
        return offset

    def _write(self, data: Any, offset: int) -> None:
        view, done = memoryview(data), 0
        while done < len(view):
            done += os.pwrite(self._file.fileno(), view[done:], offset + done)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
