"""Tensors of a safetensors file, read one at a time into memory of their own.

The file is not mapped: pages of a mapping stay resident and count as memory of the process, and a
large network's weights would all be there at the end.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from coreml_sd.models.float8 import FLOAT8
from coreml_sd.models.pointer_files import require_content
from coreml_sd.models.weight_files import SAVE_AS_FP16

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
            self._file = path.open("rb")
            self.entries = self._read_header()
        except UserError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(error) from None

    def _read_header(self) -> dict[str, TensorEntry]:
        size = os.fstat(self._file.fileno()).st_size
        length = int.from_bytes(self._file.read(_LENGTH_BYTES), "little")
        if length > min(size - _LENGTH_BYTES, _LARGEST_HEADER):
            raise ValueError("the header does not fit in the file")
        header: dict[str, dict[str, Any]] = json.loads(self._file.read(length))
        header.pop("__metadata__", None)
        start = _LENGTH_BYTES + length
        entries = {}
        for name, held in header.items():
            first, last = held["data_offsets"]
            entry = TensorEntry(held["dtype"], tuple(held["shape"]), start + first, last - first)
            if entry.dtype not in _DTYPES:
                raise self._unsupported(name, entry.dtype)
            expected = int(np.prod(entry.shape, dtype=np.int64)) * _DTYPES[entry.dtype].itemsize
            if first < 0 or entry.size != expected or start + last > size:
                raise ValueError(f"{name} lies outside the file or has another size")
            entries[name] = entry
        return entries

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
