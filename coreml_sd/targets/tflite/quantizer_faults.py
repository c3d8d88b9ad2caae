"""Work-arounds for faults of LiteRT's packages, each tied to the versions that have it.

tests/targets/test_quantizer_faults.py says when a newer version no longer needs one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from coreml_sd.targets.tflite.packed_file import write_packed

# Up to this version of ai-edge-quantizer a weight above 32 MiB and of rank above 2 cannot be
# quantized to integers: the data is flattened to two axes, its scales are not. And every weight is
# cast to fp16 twice, of which both are kept. And a file is written through a mapping, which for
# gigabytes takes up to ten times as long as writing.
LAST_FAULTY = (0, 10)
_LARGE = 32 * 2**20

# Up to this version of ai-edge-litert the GPU delegate refuses a lookup in a table that is stored
# in fp16: it takes the DEQUANTIZE before it for one of integers and misses their scales.
LAST_WITHOUT_FP16_LOOKUP = (2, 3)


def needs_work_around() -> bool:
    """Whether the installed quantizer fails on large convolution weights."""
    return _version("ai-edge-quantizer") <= LAST_FAULTY


def refuses_fp16_lookup() -> bool:
    """Whether the GPU delegate of the installed version refuses fp16 tables of embeddings."""
    return _version("ai-edge-litert") <= LAST_WITHOUT_FP16_LOOKUP


@contextlib.contextmanager
def worked_around() -> Iterator[None]:
    """While open, large convolution weights are quantized output channel by output channel,
    weights are cast to fp16 once, and files are written as a stream."""
    from ai_edge_quantizer import model_modifier
    from ai_edge_quantizer.algorithms.nonlinear_quantize import float_casting
    from ai_edge_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor

    if not needs_work_around():
        yield
        return
    slices = _in_slices(uniform_quantize_tensor)
    utilities = _CastingOnce(float_casting.tfl_flatbuffer_utils)
    with (
        mock.patch.object(uniform_quantize_tensor, "uniform_quantize", slices),
        mock.patch.object(float_casting, "tfl_flatbuffer_utils", utilities),
        mock.patch.object(
            model_modifier.ModelModifier,
            "_serialize_model",
            _streaming(model_modifier.ModelModifier._serialize_model),
        ),
    ):
        yield


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


def _streaming(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """Of `ModelModifier._serialize_model`; what it returns is then only measured."""

    def serialize(modifier: Any, model: Any, packed: Any, serialize_to_path: Any = None) -> Any:
        if serialize_to_path is None:
            return upstream(modifier, model, packed)
        held = packed.data_for_buffer_id
        sizes = {place: len(data) for place, data in held.items()}
        write_packed(Path(serialize_to_path), model, sizes, held.__getitem__)
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


def _version(package: str) -> tuple[int, int]:
    major, minor, *_ = importlib.metadata.version(package).split(".")
    return int(major), int(minor)


def _sliced(params: Any, rows: slice) -> Any:
    def part(values: Any) -> Any:
        return values[rows] if values.shape[0] > 1 else values

    return dataclasses.replace(params, scale=part(params.scale), zero_point=part(params.zero_point))
