"""Convolution, linear, matmul, einsum: everything that multiplies by weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.mil.ops.registry import op

_Ints = tuple[int, ...]
# Scores and results of split-einsum attention; the same with the operands the other way round.
_BATCHED = ("bchq,bkhc->bkhq", "bkhq,bchk->bchq")
_TURNED = {"bkhc,bchq->bkhq": _BATCHED[0], "bchk,bkhq->bchq": _BATCHED[1]}


@op("conv", static=("strides", "pad_type", "pad", "dilations", "groups"))
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: _Ints = (),
    pad_type: str = "valid",
    pad: _Ints = (),
    dilations: _Ints = (),
    groups: int = 1,
) -> Tensor:
    """x (B, C, spatial...), weight (C_out, C / groups, kernel...), 1 to 3 spatial axes."""
    rank = x.ndim - 2
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    pads = _pads(x.shape[2:], weight.shape[2:], strides, dilations, pad_type, pad)
    if groups == 1 and not any(pads) and all(n == 1 for n in (*weight.shape[2:], *strides)):
        # One product is up to a third quicker than the convolution over a long row of tokens.
        pixels = weight.flatten(1) @ x.flatten(2)
        if bias is not None:
            pixels += bias[:, None]
        return pixels.reshape(x.shape[0], weight.shape[0], *x.shape[2:])
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    if all(pads[2 * axis] == pads[2 * axis + 1] for axis in range(rank)):
        symmetric = pads[::2]
        return function(x, weight, bias, strides, symmetric, dilations, groups)
    x = F.pad(x, _torch_order(pads))
    return function(x, weight, bias, strides, 0, dilations, groups)


@op(
    "conv_transpose",
    static=("strides", "pad_type", "pad", "dilations", "groups", "output_shape"),
)
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: _Ints = (),
    pad_type: str = "valid",
    pad: _Ints = (),
    dilations: _Ints = (),
    groups: int = 1,
    output_shape: _Ints = (),
) -> Tensor:
    """x (B, C, H, W), weight (C, C_out / groups, kernel...); custom or valid padding."""
    if x.ndim != 4 or pad_type not in ("valid", "custom"):
        raise CoremlSDError(f"conv_transpose with {pad_type} padding at rank {x.ndim}")
    strides, dilations = strides or (1, 1), dilations or (1, 1)
    full = F.conv_transpose2d(x, weight, bias, strides, 0, 0, groups, dilations)
    top, bottom, left, right = pad if pad_type == "custom" else (0, 0, 0, 0)
    if output_shape:  # extra rows and columns beyond what the padding leaves
        height, width = output_shape[-2:]
        short = (top + height - full.shape[2], left + width - full.shape[3])
        full = F.pad(full, (0, max(0, short[1]), 0, max(0, short[0])))
        return full[:, :, top : top + height, left : left + width]
    return full[:, :, top : full.shape[2] - bottom, left : full.shape[3] - right]


@op("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., in), weight (out, in)."""
    return F.linear(x, weight, bias)


@op("matmul", static=("transpose_x", "transpose_y"))
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    left = x.transpose(-1, -2) if transpose_x else x
    right = y.transpose(-1, -2) if transpose_y else y
    return left @ right


@op("einsum", static=("equation",))
def einsum(values: list[Tensor], equation: str) -> Tensor:
    """The two equations of split-einsum attention as batched matmuls; any other by torch."""
    if equation in _TURNED:
        values, equation = values[::-1], _TURNED[equation]
    first, second = values
    if equation in _BATCHED:
        if first.shape[2] == 1:
            return (second[:, :, 0] @ first[:, :, 0]).unsqueeze(2)
        return (second.transpose(1, 2) @ first.transpose(1, 2)).transpose(1, 2)
    return torch.einsum(equation, first, second)


def _pads(
    size: torch.Size,
    kernel: torch.Size,
    strides: _Ints,
    dilations: _Ints,
    pad_type: str,
    pad: _Ints,
) -> _Ints:
    """Begin and end padding of each axis, in MIL's order."""
    if pad_type == "valid":
        return (0,) * (2 * len(size))
    if pad_type == "custom":
        return tuple(pad)
    pads: list[int] = []
    for length, taps, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        reach = (taps - 1) * dilation + 1
        total = max(0, (-(-length // stride) - 1) * stride + reach - length)
        small, large = total // 2, total - total // 2
        pads += [small, large] if pad_type == "same" else [large, small]
    return tuple(pads)


def _torch_order(pads: _Ints) -> list[int]:
    """MIL pads axes first to last; torch wants the last axis first."""
    pairs = [pads[i : i + 2] for i in range(0, len(pads), 2)]
    return [value for pair in reversed(pairs) for value in pair]
