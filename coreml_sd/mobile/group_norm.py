"""Group norm without broadcast ops, rank <= 4, and safe in fp16."""

from __future__ import annotations

import math

import torch
from torch import nn

from coreml_sd.mobile.shapes import sizes
from coreml_sd.mobile.weights import not_plain, shared

# Every group is brought to |x| <= _PEAK before anything is summed or squared. Small, so that even
# a sum held in fp16 stays far below 65,504; above 1, so that the mean square of a group with one
# outlier among 10^5 values (peak^2 / 10^5) stays clear of the fp16 underflow.
_PEAK = 4.0

# The longest last axis: sums of _PEAK over it fit fp16, and the Neural Engine refuses axes above
# 16,384 before M4.
_LONGEST_AXIS = 8192


class SafeGroupNorm(nn.Module):
    """`nn.GroupNorm` on `(B, C, H, W)` whose every intermediate fits fp16 for |x| <= 60,000.

    With s = max(max|x| of the group, 4 sqrt(eps)) and r = 4 / s, group norm of x at eps equals
    group norm of r*x at r^2*eps. The scaled group lies in -4..4, so neither its sum, its
    deviation nor its square can overflow, however large x is; r*sqrt(eps) <= 1, so the epsilon
    neither overflows nor is lost in fp16's subnormal numbers, however small x is. Any error of r
    itself cancels, because the same r multiplies x and sqrt(eps). Scaling x instead of its
    deviation costs the same number of ops, and protects the mean and the subtraction as well.

    Means are taken in two stages (last axis, then the rest), for accumulators in fp16.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.3).

    Raises:
        UserError: the source is not a plain affine GroupNorm.
    """

    peak: torch.Tensor
    floor: torch.Tensor

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        if type(source) is not nn.GroupNorm or source.weight is None:
            raise not_plain(source, "GroupNorm with weight and bias")
        self.groups = source.num_groups
        self.root_eps = math.sqrt(source.eps)
        self.weight = shared(source.weight)
        self.bias = shared(source.bias)
        # Tensors: number / tensor becomes a reciprocal op that adds an epsilon, and clamp with a
        # lower bound alone becomes a clip up to infinity.
        self.register_buffer("peak", torch.tensor(_PEAK), persistent=False)
        floor = torch.tensor(_PEAK * self.root_eps)
        self.register_buffer("floor", floor, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = sizes(x)
        per_group = channels // self.groups
        if height * width <= _LONGEST_AXIS:
            grouped = x.reshape(batch, self.groups, per_group, height * width)
        else:
            grouped = x.reshape(batch, self.groups, per_group * height, width)
        largest = grouped.abs().amax(dim=(2, 3), keepdim=True)
        scale = self.peak / torch.maximum(largest, self.floor)
        scaled = grouped * scale
        centred = scaled - _two_stage_mean(scaled)
        variance = _two_stage_mean(centred * centred)
        scaled_root_eps = scale * self.root_eps
        inverse = torch.rsqrt(variance + scaled_root_eps * scaled_root_eps)
        normal = (centred * inverse).reshape(batch, channels, height, width)
        return normal * self.weight[None, :, None, None] + self.bias[None, :, None, None]


def _two_stage_mean(x: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)
