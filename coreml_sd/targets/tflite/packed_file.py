"""Write a .tflite whose large buffers lie behind the model, as those above 2 GB must."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_ALIGNMENT = 16


def write_packed(
    path: Path, model: Any, sizes: Mapping[int, int], data: Callable[[int], memoryview]
) -> None:
    """Write a model with some of its buffers behind it, each asked for when it is written.

    Args:
        model: an object of the schema; its buffers in `sizes` lose what they hold.
        sizes: number of a buffer -> its bytes, in the order in which they lie.
        data: of a buffer by its number.
    """
    from ai_edge_litert.tools import flatbuffer_utils as files

    for place in sizes:
        # Not zero, so that room is made for the numbers to come.
        buffer = model.buffers[place]
        buffer.data, buffer.offset, buffer.size = None, 1, 1
    head = files.convert_object_to_bytearray(model)
    packed, end = files.Model.GetRootAs(head), _aligned(len(head))
    begins = {}
    for place, size in sizes.items():
        files.update_packed_buffer(packed.Buffers(place), offset=end, size=size)
        begins[place], end = end, _aligned(end + size)
    with path.open("wb") as file:
        file.write(head)
        for place, begin in begins.items():
            file.seek(begin)
            file.write(data(place))
        file.truncate(end)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
