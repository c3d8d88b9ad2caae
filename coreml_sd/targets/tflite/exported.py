"""A network that was exported without its large weights: written with them, or quantized at once.

The file in fp32 is twice to four times the size of what becomes of it. Where nobody asks for it,
the quantizer takes each weight from where it lies, when it gets to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.targets.tflite.packed_file import write_packed
from coreml_sd.targets.tflite.placeholders import StandIns, StoodFor
from coreml_sd.upstream.ai_edge_quantizer_faults import buffers_of

_ITEM = 4  # bytes of a value


@dataclass(frozen=True)
class Exported:
    """A .tflite as the exporter made it, and what stands in it for the large weights."""

    content: bytes
    stand_ins: StandIns

    def write(self, path: Path) -> None:
        """Write the file in fp32, one weight at a time."""
        model, weights = self._model()
        if not weights:
            path.write_bytes(self.content)
            return
        sizes = {place: _ITEM * math.prod(weight.shape) for place, weight in weights.items()}
        write_packed(path, model, sizes, lambda place: _bytes_of(weights[place]).data)

    def quantizer(self) -> Any:
        """The quantizer of this file."""
        from ai_edge_litert.tools import flatbuffer_utils as files
        from ai_edge_quantizer import quantizer

        model, weights = self._model()
        numbered = dict(enumerate(weights.values(), start=1))
        for number, place in enumerate(weights, start=1):
            model.buffers[place].size = number  # empty buffers are kept apart by their sizes
        worker = quantizer.Quantizer(files.convert_object_to_bytearray(model))
        later = _later(numbered)
        buffers = buffers_of(worker)
        for place, buffer in enumerate(buffers):
            if buffer.data is None and buffer.size:
                buffers[place] = later(weight=buffer.size)
        return worker

    def _model(self) -> tuple[Any, dict[int, StoodFor]]:
        """As an object of the schema, and the weights of the buffers that are still empty."""
        from ai_edge_litert.tools import flatbuffer_utils as files

        model = files.convert_bytearray_to_object(bytearray(self.content))
        return model, self.stand_ins.take_in(model)


def _later(weights: Mapping[int, StoodFor]) -> type:
    """A buffer of the schema whose data is read when it is asked for, again each time; what is
    put in its place stays."""
    from ai_edge_litert import schema_py_generated as schema

    @lru_cache(maxsize=1)  # the quantizer asks several times in a row
    def read(weight: int) -> NDArray[np.uint8]:
        return _bytes_of(weights[weight])

    class Later(schema.BufferT):  # type: ignore[misc]
        def __init__(
            self, data: Any = None, offset: int = 0, size: int = 0, weight: int = 0
        ) -> None:
            # The quantizer copies a model by these names.
            self.offset, self.size, self.weight = offset, size, weight
            if data is not None:
                self.data = data

        def get(self) -> Any:
            return self.__dict__["data"] if "data" in self.__dict__ else read(self.weight)

        def put(self, value: Any) -> None:
            self.__dict__["data"] = value

        data = property(get, put)

    return Later


def _bytes_of(weight: StoodFor) -> NDArray[np.uint8]:
    return weight.values().reshape(-1).view(np.uint8)
