"""Depthwise and pointwise convolutions in the place of a full one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from coreml_sd.mobile.layer_weights import shared_conv
from coreml_sd.models.mobile_diffusion.unet import SeparableConv2d


class MobileSeparableConv(nn.Module):
    """`SeparableConv2d` on `(B, C, H, W)`."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.depthwise = shared_conv(source.depthwise)
        self.pointwise = shared_conv(source.pointwise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))  # type: ignore[no-any-return]


def shared_convolution(source: nn.Module) -> nn.Module:
    """A full or separable convolution like `source` that views its weights.

    Raises:
        UserError: `source` is neither plain.
    """
    if type(source) is SeparableConv2d:
        return MobileSeparableConv(source)
    return shared_conv(source)
