"""Look-up by index; an index out of range is an error, never a wrap-around."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.mil.ops.registry import op


@op("gather", static=("axis", "batch_dims", "validate_indices"), moves=True)
def gather(
    x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor:
    """Slices of `x` along `axis`; negative indices count from the end."""
    if batch_dims:
        raise CoremlSDError("gather with batch dimensions")
    axis = axis % x.ndim
    flat = _wrapped(indices.reshape(-1), x.shape[axis])
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, flat).reshape(shape)


@op("gather_along_axis", static=("axis", "validate_indices"), moves=True)
def gather_along_axis(
    x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False
) -> Tensor:
    return x.gather(axis, _wrapped(indices, x.shape[axis]))


@op("gather_nd", static=("batch_dims", "validate_indices"), moves=True)
def gather_nd(
    x: Tensor, indices: Tensor, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor:
    """Indices (..., depth) into the first `depth` axes of `x`."""
    if batch_dims:
        raise CoremlSDError("gather_nd with batch dimensions")
    axes = [_wrapped(indices[..., i], x.shape[i]) for i in range(indices.shape[-1])]
    return x[tuple(axes)]


def _wrapped(indices: Tensor, size: int) -> Tensor:
    whole = indices.to(torch.int64)
    if whole.numel() and not whole.is_meta and not (whole.min() >= -size and whole.max() < size):
        raise CoremlSDError(f"index {int(whole.min())}..{int(whole.max())} outside {size} entries")
    return torch.where(whole < 0, whole + size, whole)
