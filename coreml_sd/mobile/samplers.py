"""Halving and doubling the size of feature maps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.downsampling import Downsample2D
from diffusers.models.upsampling import Upsample2D
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.layer_weights import shared_conv
from coreml_sd.mobile.shapes import sizes


class MobileDownsample(nn.Module):
    """`Downsample2D` with a convolution: `(B, C, H, W)` to half of H and W.

    Raises:
        UserError: a sampler without convolution, or with a norm.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        if type(source) is not Downsample2D or not source.use_conv or source.norm is not None:
            raise UserError(f"downsampler {type(source).__name__} has no mobile form")
        self.conv = shared_conv(source.conv)
        # A VAE pads only below and to the right, which a convolution cannot do by itself.
        self.pads = source.padding == 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pads:
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)  # type: ignore[no-any-return]


class MobileUpsample(nn.Module):
    """`Upsample2D` with a convolution: `(B, C, H, W)` to twice H and W, or to the size of `like`.

    On the way up of a UNet the map must fit the next skip tensor, which is one row or column
    smaller than twice the map where the size on the way down was odd. Nearest-neighbour
    doubling, then cropping, equals diffusers' resampling to the odd size.

    Raises:
        UserError: a sampler without convolution, with a norm or a transposed convolution.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        plain = type(source) is Upsample2D and source.use_conv and not source.use_conv_transpose
        if not plain or source.norm is not None or not source.interpolate:
            raise UserError(f"upsampler {type(source).__name__} has no mobile form")
        if source.name != "conv":
            raise UserError(f"upsampler with layer name {source.name!r} has no mobile form")
        self.conv = shared_conv(source.conv)

    def forward(self, x: torch.Tensor, like: torch.Tensor | None = None) -> torch.Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        if like is not None and sizes(like)[2:] != sizes(x)[2:]:
            height, width = sizes(like)[2:]
            x = x[:, :, :height, :width]
        return self.conv(x)  # type: ignore[no-any-return]
