"""Work-arounds for faults of ai-edge-quantizer, each tied to the versions that have it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
from collections.abc import Iterator
from typing import Any

import numpy as np

# Up to this version a weight above 32 MiB and of rank above 2 cannot be quantized to integers: the
# data is flattened to two axes, its scales are not. tests/targets/test_quantize.py says when a
# newer version no longer needs this.
LAST_FAULTY = (0, 10)
_LARGE = 32 * 2**20


def needs_work_around() -> bool:
    """Whether the installed version has the fault."""
    version = importlib.metadata.version("ai-edge-quantizer").split(".")
    return (int(version[0]), int(version[1])) <= LAST_FAULTY


@contextlib.contextmanager
def worked_around() -> Iterator[None]:
    """While open, large convolution weights are quantized output channel by output channel."""
    from ai_edge_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor as upstream

    if not needs_work_around():
        yield
        return
    original = upstream.uniform_quantize

    def in_slices(data: Any, params: Any, is_blockwise_quant: bool = False) -> Any:
        if data.ndim <= 2 or data.nbytes <= _LARGE or is_blockwise_quant:
            return original(data, params, is_blockwise_quant)
        params = upstream.fix_quantization_params_rank(data, params)
        rows = max(1, _LARGE // (data.nbytes // data.shape[0]))
        pieces = [
            original(data[i : i + rows], _sliced(params, slice(i, i + rows)))
            for i in range(0, data.shape[0], rows)
        ]
        return np.concatenate(pieces)

    upstream.uniform_quantize = in_slices
    try:
        yield
    finally:
        upstream.uniform_quantize = original


def _sliced(params: Any, rows: slice) -> Any:
    def part(values: Any) -> Any:
        return values[rows] if values.shape[0] > 1 else values

    return dataclasses.replace(params, scale=part(params.scale), zero_point=part(params.zero_point))
