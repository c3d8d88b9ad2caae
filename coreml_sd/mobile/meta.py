"""Run a network on `meta` tensors: shapes and dtypes flow, numbers do not, no memory is used."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from coreml_sd.mobile.replaced_tensors import replaced_tensors
from coreml_sd.upstream.hidden_imports import without_compiler

# What is swapped and registered below belongs to the whole process.
_alone = threading.RLock()


@contextlib.contextmanager
def on_meta(network: nn.Module) -> Iterator[None]:
    """The network with all parameters and buffers on `meta`; its own return at the end.

    `torch.jit.trace` works inside. With torch's own kernel of `meta` convolutions it does not: that
    is Python, asks for sizes, and a trace answers with tensors.
    """
    with (
        _alone,
        _traceable_convolution(),
        without_compiler(),
        replaced_tensors(network, _as_meta, buffers=True),
    ):
        yield


def storage_of(tensor: torch.Tensor) -> int:
    """Equal for tensors of one storage, on any device, while one of them lives.

    On `meta` every data pointer is 0.
    """
    return int(tensor.untyped_storage()._cdata)


def storage_key(tensor: torch.Tensor) -> tuple[int, int]:
    """Equal for tensors that begin at the same place of one storage, while one of them lives."""
    return storage_of(tensor), int(tensor.storage_offset())


def _as_meta(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_meta:
        return tensor
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


@contextlib.contextmanager
def _traceable_convolution() -> Iterator[None]:
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
