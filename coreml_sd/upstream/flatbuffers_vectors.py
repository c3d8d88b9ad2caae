"""Where a vector of bytes lies in a flatbuffer, which its generated classes do not tell."""

from __future__ import annotations

from typing import Any

_DATA = 4  # of the schema's table `Buffer`: the slot of `data`


def data_span(buffer: Any) -> tuple[int, int]:
    """Offset in the file and bytes of what a `Buffer` of LiteRT's schema holds; nothing at 0."""
    table = buffer._tab
    field = table.Offset(_DATA)
    return (int(table.Vector(field)), int(buffer.DataLength())) if field else (0, 0)
