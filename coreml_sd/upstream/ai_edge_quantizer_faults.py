"""What ai-edge-quantizer gets wrong with large weights, tied to the versions that do.

tests/upstream/test_ai_edge_quantizer_faults.py says when a newer version no longer needs them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coreml_sd.upstream import table
from coreml_sd.upstream.versions import installed_version

# Up to this version a weight above 32 MiB and of rank above 2 cannot be quantized to integers: the
# data is flattened to two axes, its scales are not. And every weight is cast to fp16 twice, of
# which both are kept. And a file is written through a mapping, which for gigabytes takes up to ten
# times as long as writing.
LAST_FAULTY = (0, 10)
_LARGE = 32 * 2**20

# Writes a model with buffers of these sizes behind it, each asked for when it is written.
Write = Callable[[Path, Any, Mapping[int, int], Callable[[int], memoryview]], None]


def needs_work_around() -> bool:
    """Whether the installed quantizer fails on large convolution weights."""
    return installed_version("ai-edge-quantizer") <= LAST_FAULTY


@contextlib.contextmanager
def worked_around(write: Write) -> Iterator[None]:
    """While open, large convolution weights are quantized output channel by output channel,
    weights are cast to fp16 once, and files are written by `write`."""
    from ai_edge_quantizer import model_modifier
    from ai_edge_quantizer.algorithms.nonlinear_quantize import float_casting
    from ai_edge_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor

    if not needs_work_around():
        yield
        return
    slices = _in_slices(uniform_quantize_tensor)
    utilities = _CastingOnce(float_casting.tfl_flatbuffer_utils)
    modifier = model_modifier.ModelModifier
    streaming = _streaming(modifier._serialize_model, write)
    with (
        table.LARGE_WEIGHTS.replaced(uniform_quantize_tensor, "uniform_quantize", slices),
        table.ONE_CAST.replaced(float_casting, "tfl_flatbuffer_utils", utilities),
        table.STREAMED_FILE.replaced(modifier, "_serialize_model", streaming),
    ):
        yield


def buffers_of(worker: Any) -> Any:
    """The buffers of the model that a quantizer has read, to put others in their places."""
    return worker._float_model.buffers


def _in_slices(upstream: Any) -> Callable[..., Any]:
    original = upstream.uniform_quantize

    def quantize(data: Any, params: Any, is_blockwise_quant: bool = False) -> Any:
        if data.ndim <= 2 or data.nbytes <= _LARGE or is_blockwise_quant:
            return original(data, params, is_blockwise_quant)
        params = upstream.fix_quantization_params_rank(data, params)
        rows = max(1, _LARGE // (data.nbytes // data.shape[0]))
        pieces = [
            original(data[i : i + rows], _sliced(params, slice(i, i + rows)))
            for i in range(0, data.shape[0], rows)
        ]
        return np.concatenate(pieces)

    return quantize


def _streaming(upstream: Callable[..., Any], write: Write) -> Callable[..., Any]:
    """Of `ModelModifier._serialize_model`; what it returns is then only measured."""

    def serialize(modifier: Any, model: Any, packed: Any, serialize_to_path: Any = None) -> Any:
        if serialize_to_path is None:
            return upstream(modifier, model, packed)
        held = packed.data_for_buffer_id
        sizes = {place: len(data) for place, data in held.items()}
        write(Path(serialize_to_path), model, sizes, held.__getitem__)
        return range(Path(serialize_to_path).stat().st_size)  # its length is reported

    return serialize


class _CastingOnce:
    """The quantizer's `tfl_flatbuffer_utils`, whose tensors remember what they were cast to."""

    def __init__(self, utilities: Any) -> None:
        self._utilities = utilities

    def __getattr__(self, name: str) -> Any:
        return getattr(self._utilities, name)

    def get_tensor_data(self, tensor: Any, buffers: Any) -> Any:
        data = self._utilities.get_tensor_data(tensor, buffers)
        return None if data is None else data.view(_CastOnce)


class _CastOnce(np.ndarray[Any, Any]):
    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        casts = vars(self).setdefault("casts", {})
        if dtype not in casts:
            casts[dtype] = super().astype(dtype, *args, **kwargs).view(np.ndarray)
        return casts[dtype]


def _sliced(params: Any, rows: slice) -> Any:
    def part(values: Any) -> Any:
        return values[rows] if values.shape[0] > 1 else values

    return dataclasses.replace(params, scale=part(params.scale), zero_point=part(params.zero_point))
