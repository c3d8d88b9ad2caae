"""Reductions."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_sd.runtimes.mil.ops.registry import op

_STATIC = ("axes", "keep_dims")
_Ints = tuple[int, ...]


def _all(x: Tensor, axes: _Ints | None) -> _Ints:
    return tuple(range(x.ndim)) if axes is None else axes


@op("reduce_mean", static=_STATIC)
def reduce_mean(x: Tensor, axes: _Ints | None = None, keep_dims: bool = False) -> Tensor:
    return x.mean(dim=_all(x, axes), keepdim=keep_dims)


@op("reduce_sum", static=_STATIC)
def reduce_sum(x: Tensor, axes: _Ints | None = None, keep_dims: bool = False) -> Tensor:
    return x.sum(dim=_all(x, axes), keepdim=keep_dims, dtype=x.dtype)


@op("reduce_max", static=_STATIC)
def reduce_max(x: Tensor, axes: _Ints | None = None, keep_dims: bool = False) -> Tensor:
    return x.amax(dim=_all(x, axes), keepdim=keep_dims)


@op("reduce_min", static=_STATIC)
def reduce_min(x: Tensor, axes: _Ints | None = None, keep_dims: bool = False) -> Tensor:
    return x.amin(dim=_all(x, axes), keepdim=keep_dims)


@op("reduce_sum_square", static=_STATIC)
def reduce_sum_square(x: Tensor, axes: _Ints | None = None, keep_dims: bool = False) -> Tensor:
    return (x * x).sum(dim=_all(x, axes), keepdim=keep_dims)


@op("reduce_l2_norm", static=_STATIC)
def reduce_l2_norm(x: Tensor, axes: _Ints | None = None, keep_dims: bool = False) -> Tensor:
    return (x * x).sum(dim=_all(x, axes), keepdim=keep_dims).sqrt()


@op("reduce_argmax", static=("axis", "keep_dims", "output_dtype"))
def reduce_argmax(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    """The first of equal maxima."""
    return x.argmax(dim=axis, keepdim=keep_dims).to(torch.int32)
