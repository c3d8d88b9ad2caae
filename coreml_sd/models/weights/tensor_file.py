"""Tensors of a safetensors file, read one at a time into memory of their own.

The file is not mapped: pages of a mapping stay resident and count as memory of the process, and a
large network's weights would all be there at the end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from coreml_sd.files.foreign import open_regular, parse_json
from coreml_sd.files.limits import LIMITS
from coreml_sd.models.folder.pointer_files import require_content
from coreml_sd.models.folder.weight_files import SAVE_AS_FP16
from coreml_sd.models.weights.float8 import FLOAT8

_LENGTH_BYTES = 8
_LARGEST_HEADER = 100_000_000
_DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),  # numpy has none: the upper half of an fp32
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
    "F8_E4M3": np.dtype("u1"),  # 8-bit floats are looked up
    "F8_E5M2": np.dtype("u1"),
}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor's place: the format's dtype name, shape, first byte in the file, bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


class TensorFile:
    """A safetensors file; threads may read from it at the same time.

    Raises:
        UserError: missing, truncated or damaged; the file is named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            require_content(path)
            self._file = open_regular(path)
            self.entries = self._read_header()
        except UserError:
            raise
        except (OSError, ValueError) as error:
            raise self._damaged(error) from None

    def _read_header(self) -> dict[str, TensorEntry]:
        size = os.fstat(self._file.fileno()).st_size
        length = int.from_bytes(self._file.read(_LENGTH_BYTES), "little")
        if length > min(size - _LENGTH_BYTES, _LARGEST_HEADER):
            raise ValueError("the header does not fit in the file")
        header = parse_json(self._file.read(max(0, length)).decode("utf-8"))
        if not isinstance(header, dict):
            raise ValueError("the header is not a table")
        header.pop("__metadata__", None)
        start = _LENGTH_BYTES + length
        entries = {name: self._entry(name, held, start) for name, held in header.items()}
        self._require_gapless(entries, start, size)
        return entries

    def _entry(self, name: str, held: Any, start: int) -> TensorEntry:
        fields = held if isinstance(held, dict) else {}
        dtype, shape, span = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
        if not isinstance(dtype, str) or not isinstance(shape, list) or not isinstance(span, list):
            raise ValueError(f"{name} has no dtype, shape or data_offsets that could be read")
        if not all(type(each) is int and each >= 0 for each in (*shape, *span)):
            raise ValueError(f"{name} has sizes or offsets that are no numbers from 0")
        if dtype not in _DTYPES:
            raise self._unsupported(name, dtype)
        if len(shape) > LIMITS.rank or len(span) != 2:
            raise ValueError(f"{name} has {len(shape)} axes and {len(span)} offsets")
        first, last = span
        if last - first != prod(shape) * _DTYPES[dtype].itemsize:
            raise ValueError(f"{name} has another size than its shape and dtype say")
        return TensorEntry(dtype, tuple(shape), start + first, last - first)

    def _require_gapless(self, entries: dict[str, TensorEntry], start: int, size: int) -> None:
        """The format lets each byte belong to one tensor."""
        end = start
        for name, entry in sorted(entries.items(), key=lambda held: (held[1].offset, held[1].size)):
            if entry.offset != end:
                overlaps = entry.offset < end
                raise ValueError(f"{name} {'overlaps another' if overlaps else 'leaves a gap'}")
            end += entry.size
        if end != size:
            raise ValueError(f"its tensors end at byte {end}, the file at {size}")

    def read(self, name: str) -> NDArray[Any]:
        """One tensor in its own dtype; bfloat16 as float32, 8-bit floats as float16.

        Raises:
            UserError: the file ends before the tensor does.
        """
        entry = self.entries[name]
        array = np.empty(entry.shape, dtype=_DTYPES[entry.dtype])
        view = memoryview(array.reshape(-1).view(np.uint8).data) if array.size else memoryview(b"")
        done = 0
        try:
            while done < entry.size:
                got = os.preadv(self._file.fileno(), [view[done:]], entry.offset + done)
                if not got:
                    raise ValueError(f"it ends inside {name}")
                done += got
        except (OSError, ValueError) as error:
            raise self._damaged(error) from None
        if entry.dtype == "BF16":
            return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        if entry.dtype in FLOAT8:
            return FLOAT8[entry.dtype][array]
        return array

    def _damaged(self, error: Exception) -> UserError:
        return UserError(f"{self.path}: truncated or damaged ({error}); download it again")

    def _unsupported(self, name: str, dtype: str) -> UserError:
        return UserError(
            f"{self.path}: {name} is of type {dtype}, which is not supported; {SAVE_AS_FP16}"
        )
