"""Ops that move data: reshape, transpose, split, concat, slice, pad."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.mil.ops.registry import op

_Ints = tuple[int, ...]
_Bools = tuple[bool, ...]


@op("reshape", static=("shape",), moves=True)
def reshape(x: Tensor, shape: _Ints) -> Tensor:
    """`shape` may hold one -1, and 0 for "as it was"."""
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])


@op("transpose", static=("perm",), moves=True)
def transpose(x: Tensor, perm: _Ints) -> Tensor:
    return x.permute(perm)


@op("expand_dims", static=("axes",), moves=True)
def expand_dims(x: Tensor, axes: _Ints) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@op("squeeze", static=("axes",), moves=True)
def squeeze(x: Tensor, axes: _Ints | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(axes)


@op("concat", static=("axis", "interleave"), moves=True)
def concat(values: list[Tensor], axis: int, interleave: bool = False) -> Tensor:
    if interleave:
        return torch.stack(values, dim=axis + 1).flatten(axis, axis + 1)
    return torch.cat(values, dim=axis)


@op("stack", static=("axis",), moves=True)
def stack(values: list[Tensor], axis: int) -> Tensor:
    return torch.stack(values, dim=axis)


@op("split", static=("axis", "split_sizes", "num_splits"), moves=True)
def split(
    x: Tensor, axis: int, split_sizes: _Ints | None = None, num_splits: int | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is None:
        if not num_splits or x.shape[axis] % num_splits:
            raise CoremlSDError(f"split of {x.shape[axis]} into {num_splits}")
        split_sizes = (x.shape[axis] // num_splits,) * num_splits
    return x.split(list(split_sizes), dim=axis)  # type: ignore[no-untyped-call,no-any-return]


@op(
    "slice_by_index",
    static=("begin", "end", "stride", "begin_mask", "end_mask", "squeeze_mask"),
    moves=True,
)
def slice_by_index(
    x: Tensor,
    begin: _Ints,
    end: _Ints,
    stride: _Ints | None = None,
    begin_mask: _Bools | None = None,
    end_mask: _Bools | None = None,
    squeeze_mask: _Bools | None = None,
) -> Tensor:
    index: list[slice | int] = []
    for axis in range(x.ndim):
        if squeeze_mask is not None and squeeze_mask[axis]:
            index.append(begin[axis])
            continue
        step = 1 if stride is None else stride[axis]
        if step < 0:
            raise CoremlSDError("slice_by_index with a negative stride")
        first = None if begin_mask is not None and begin_mask[axis] else begin[axis]
        last = None if end_mask is not None and end_mask[axis] else end[axis]
        index.append(slice(first, last, step))
    return x[tuple(index)]


@op("slice_by_size", static=("begin", "size"), moves=True)
def slice_by_size(x: Tensor, begin: _Ints, size: _Ints) -> Tensor:
    return x[
        tuple(
            slice(first, None if count == -1 else first + count)
            for first, count in zip(begin, size, strict=True)
        )
    ]


@op("tile", static=("reps",), moves=True)
def tile(x: Tensor, reps: _Ints) -> Tensor:
    return x.repeat(reps)


@op("reverse", static=("axes",), moves=True)
def reverse(x: Tensor, axes: _Ints | None = None) -> Tensor:
    return x.flip(tuple(range(x.ndim)) if axes is None else axes)


@op("pad", static=("pad", "mode", "constant_val"), moves=True)
def pad(x: Tensor, pad: _Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """`pad` holds begin and end of the last axes, in the order of the axes."""
    pairs = [pad[i : i + 2] for i in range(0, len(pad), 2)]
    flat = [value for pair in reversed(pairs) for value in pair]
    if mode == "constant":
        return F.pad(x, flat, value=constant_val)
    return F.pad(x, flat, mode={"reflect": "reflect", "replicate": "replicate"}[mode])


@op("shape")
def shape_of(x: Tensor) -> Tensor:
    return torch.tensor(x.shape, dtype=torch.int32)


@op("fill", static=("shape", "value"))
def fill(shape: _Ints, value: float = 0.0) -> Tensor:
    return torch.full(shape, value)
