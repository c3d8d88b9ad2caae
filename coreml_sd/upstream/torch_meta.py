"""Convolutions on `meta` tensors that `torch.jit.trace` can record.

torch's own kernel is Python, asks for sizes, and a trace answers with tensors.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def traceable_convolution() -> Iterator[None]:
    """While open, torch's kernels of `meta` convolutions are ours, for the whole process.

    One thread at a time may be inside.
    """
    library: Any = torch.library.Library("aten", "IMPL", "Meta")  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that kernels are replaced is wanted
            library.impl("convolution", _convolution)
            library.impl("_convolution", _convolution_shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            yield
    finally:
        library._destroy()


def _convolution(*arguments: Any) -> torch.Tensor:
    """A trace records `_convolution` and nothing of what leads to it."""
    settings = False, False, True, True  # benchmark, deterministic, cudnn, tf32: without meaning
    result: torch.Tensor = torch.ops.aten._convolution(*arguments, *settings)
    return result


def _convolution_shape(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    *settings: bool,
) -> torch.Tensor:
    given, kernel = [int(size) for size in x.shape], [int(size) for size in weight.shape]
    if transposed:
        raise NotImplementedError("transposed convolutions have no traceable shape")
    if given[1] != kernel[1] * groups:
        raise ValueError(f"convolution of {given[1]} channels by a weight of {kernel}")
    spans = zip(given[2:], kernel[2:], stride, padding, dilation, strict=True)
    sides = [(n + 2 * pad - gap * (k - 1) - 1) // step + 1 for n, k, step, pad, gap in spans]
    return torch.empty([given[0], kernel[0], *sides], dtype=x.dtype, device="meta")
