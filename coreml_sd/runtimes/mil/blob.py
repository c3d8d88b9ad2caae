"""weight.bin: memory-mapped, record by record, sub-byte values unpacked."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from coreml_sd.files.foreign import open_regular
from coreml_sd.runtimes.mil.unpacking import unpack

_HEADER_BYTES = 64
_RECORD = struct.Struct("<IIQQQ")
_MAGIC = 0xDEADBEEF
_VERSION = 2

# Dtype codes of the format: name of the element, bits each.
_ELEMENTS = {
    1: ("float16", 16),
    2: ("float32", 32),
    3: ("uint8", 8),
    4: ("int8", 8),
    6: ("int16", 16),
    7: ("uint16", 16),
    8: ("int4", 4),
    9: ("uint1", 1),
    10: ("uint2", 2),
    11: ("uint4", 4),
    12: ("uint3", 3),
    13: ("uint6", 6),
    14: ("int32", 32),
    15: ("uint32", 32),
}


@dataclass(frozen=True)
class BlobRecord:
    """Where one value lies: element type, bits per element, payload offset and bytes."""

    element: str
    bits: int
    offset: int
    bytes: int
    padding_bits: int


class BlobFile:
    """A weight file of storage version 2.

    Raises:
        UserError: missing, truncated, or of another format; the file is named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_regular(path) as file:
                self._data: NDArray[np.uint8] = np.memmap(file, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error}); convert again") from None
        if len(self._data) < _HEADER_BYTES:
            raise UserError(f"{path}: truncated ({len(self._data)} bytes); convert again")
        version = int.from_bytes(self._data[4:8].tobytes(), "little")
        if version != _VERSION:
            raise UserError(f"{path}: weight storage version {version}, expected {_VERSION}")

    def record(self, offset: int) -> BlobRecord:
        """The record at a byte offset, checked against the file's size.

        Raises:
            UserError: no record starts there, or its payload is outside the file.
        """
        if offset < _HEADER_BYTES or offset + _HEADER_BYTES > len(self._data):
            raise UserError(f"{self.path}: offset {offset} is outside the file; convert again")
        head = self._data[offset : offset + _RECORD.size].tobytes()
        magic, code, size, start, padding = _RECORD.unpack(head)
        if magic != _MAGIC:
            raise UserError(f"{self.path}: no weight starts at offset {offset}; convert again")
        if code not in _ELEMENTS:
            raise UserError(f"{self.path}: unknown element type {code} at offset {offset}")
        if start < _HEADER_BYTES or start + size > len(self._data):
            raise UserError(
                f"{self.path}: truncated: the weight at offset {offset} ends at {start + size}, "
                f"the file at {len(self._data)}; convert again"
            )
        element, bits = _ELEMENTS[code]
        return BlobRecord(element, bits, start, size, padding)

    def read(self, offset: int, element: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
        """The value at `offset` as a read-only array of `shape` (sub-byte: one byte each).

        Raises:
            UserError: the record holds another type or another number of elements.
        """
        record = self.check(offset, element, shape)
        payload = self._data[record.offset : record.offset + record.bytes]
        if record.bits < 8:
            signed = element == "int4"
            return unpack(payload, record.bits, prod(shape), signed=signed).reshape(shape)
        return payload.view(np.dtype(element)).reshape(shape)

    def check(self, offset: int, element: str, shape: tuple[int, ...]) -> BlobRecord:
        """The record at `offset`, which must hold a value of that type and size; none is read.

        Raises:
            UserError: the record holds another type or another number of elements.
        """
        record = self.record(offset)
        count = prod(shape)
        held = (record.bytes * 8 - record.padding_bits) // record.bits
        if record.element != element or held != count:
            raise UserError(
                f"{self.path}: offset {offset} holds {held} {record.element}, "
                f"the program expects {count} {element}; convert again"
            )
        return record
