"""Group norm without broadcast ops, rank <= 4, and safe in fp16."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from coreml_sd.mobile.layer_weights import not_plain, shared
from coreml_sd.mobile.options import MobileOptions
from coreml_sd.mobile.shapes import sizes

# Every group is brought to |x| <= _PEAK before anything is summed or squared. Small, so that even
# a sum held in fp16 stays far below 65,504; above 1, so that the mean square of a group with one
# outlier among 10^5 values (peak^2 / 10^5) stays clear of the fp16 underflow.
_PEAK = 4.0


class SafeGroupNorm(nn.Module):
    """`nn.GroupNorm` on `(B, C, H, W)` whose every intermediate fits fp16 for |x| <= 60,000.

    With s = max(max|x| of the group, 4 sqrt(eps)) and r = 4 / s, group norm of x at eps equals
    group norm of r*x at r^2*eps. The scaled group lies in -4..4, so neither its sum, its
    deviation nor its square can overflow, however large x is; r*sqrt(eps) <= 1, so the epsilon
    neither overflows nor is lost in fp16's subnormal numbers, however small x is. Any error of r
    itself cancels, because the same r multiplies x and sqrt(eps). Scaling x instead of its
    deviation costs the same number of ops, and protects the mean and the subtraction as well.

    A network that is computed in fp32 only goes without the scaling (`MobileOptions.arithmetic`).

    The map itself is never reshaped: means and maxima are taken over the width, then the height,
    then the channels of a group, so that an accumulator in fp16 does not overflow.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.3).

    Raises:
        UserError: the source is not a plain affine GroupNorm.
    """

    one: torch.Tensor
    floor: torch.Tensor
    quarters: torch.Tensor

    def __init__(self, source: nn.Module, options: MobileOptions) -> None:
        super().__init__()
        if type(source) is not nn.GroupNorm or source.weight is None:
            raise not_plain(source, "GroupNorm with weight and bias")
        self.groups = source.num_groups
        self.per_group = source.num_channels // source.num_groups
        self.scales = options.arithmetic == "fp16"
        self.eps, self.root_eps = source.eps, math.sqrt(source.eps)
        self.axes = _CHANNELS_LAST if options.layout == "channels-last" else _CHANNELS_FIRST
        self.weight = shared(source.weight)
        self.bias = shared(source.bias)
        # Tensors: number / tensor becomes a reciprocal op that adds an epsilon, clamp with a lower
        # bound alone becomes a clip up to infinity.
        self.register_buffer("one", torch.tensor(1.0), persistent=False)
        self.register_buffer("floor", torch.tensor(self.root_eps), persistent=False)
        # A product with these gives a group's value to each of its channels. A factor of one would
        # become a broadcast op, and one that fp16 does not hold an error; without the batch
        # neither side of the product would be the larger in every axis, which the Android GPU
        # delegate asks for.
        grouped = self.axes.grouped(options.batch, self.groups, self.per_group)
        self.register_buffer("quarters", torch.full(grouped, 1 / _PEAK), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        axes = self.axes
        x, eps = self._in_range(axes.enter(x))
        centred = x - self._mean(x)
        inverse = torch.rsqrt(self._mean(centred * centred) + eps)
        gain = inverse * axes.vector(self.weight)
        return axes.leave(self._finished(centred * gain + axes.vector(self.bias)))

    def _in_range(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | float]:
        """The scaled map and the epsilon that belongs to it, `(B, C, 1, 1)`."""
        if not self.scales:
            return x, self.eps
        largest = self._grouped(x.abs().amax(self.axes.width, True).amax(self.axes.height, True))
        limit = self._repeated(largest.amax(self.axes.member, True))
        scale = self.one / torch.maximum(limit, self.floor)
        root_eps = scale * self.root_eps
        return x * scale, root_eps * root_eps

    def _finished(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def _mean(self, x: torch.Tensor) -> torch.Tensor:
        """Mean of each group, given to each of its channels, `(B, C, 1, 1)`."""
        means = self._grouped(x.mean(self.axes.width, True).mean(self.axes.height, True))
        return self._repeated(means.mean(self.axes.member, True) * _PEAK)

    def _grouped(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, C, 1, 1)` to `(B, G, C / G, 1)`."""
        return x.reshape(self.axes.grouped(sizes(x)[0], self.groups, self.per_group))

    def _repeated(self, x: torch.Tensor) -> torch.Tensor:
        """A quarter of `(B, G, 1, 1)`, given to each channel of the group: `(B, C, 1, 1)`."""
        product = x * self.quarters
        return product.reshape(self.axes.single(sizes(x)[0], self.groups * self.per_group))


@dataclass(frozen=True)
class _Axes:
    """Where the axes of a map are while it is normalized. Shapes in the methods above are those of
    channels first; channels last has the same with the channels moved to the end."""

    last: bool

    @property
    def height(self) -> int:
        return 1 if self.last else 2

    @property
    def width(self) -> int:
        return 2 if self.last else 3

    @property
    def member(self) -> int:
        return 3 if self.last else 2

    def grouped(self, batch: int, groups: int, members: int) -> tuple[int, ...]:
        return (batch, 1, groups, members) if self.last else (batch, groups, members, 1)

    def single(self, batch: int, channels: int) -> tuple[int, ...]:
        return (batch, 1, 1, channels) if self.last else (batch, channels, 1, 1)

    def vector(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(self.single(1, sizes(x)[0]))

    def enter(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1) if self.last else x

    def leave(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 3, 1, 2) if self.last else x


class NormSiLU(SafeGroupNorm):
    """Group norm, then SiLU while the channels are still where the norm wants them."""

    def _finished(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(x)


_CHANNELS_FIRST, _CHANNELS_LAST = _Axes(last=False), _Axes(last=True)
