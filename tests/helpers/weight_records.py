"""weight.bin of an .mlpackage: where its records lie, and one bit changed."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
FLOAT16, UINT8 = 1, 3


def records(data: bytes) -> list[tuple[int, int, int]]:
    """Type code, offset and size of each record of a weight file."""
    found, place = [], 0
    marker = struct.pack("<I", 0xDEADBEEF)
    while (place := data.find(marker, place)) >= 0:
        code, size, start = struct.unpack_from("<IQQ", data, place + 4)
        found.append((code, start, size))
        place += 4
    return found


def one_bit(package: Path, folder: Path, code: int, size: int | None = None) -> Path:
    """A copy whose largest record of a type (and size) begins with another bit."""
    path = Path(shutil.copytree(package, folder / package.name))
    data = bytearray((path / WEIGHTS).read_bytes())
    fitting = [r for r in records(bytes(data)) if r[0] == code and size in (None, r[2])]
    start = max(fitting, key=lambda record: record[2])[1]
    data[start] ^= 1
    (path / WEIGHTS).write_bytes(bytes(data))
    return path
