"""The feed-forward part of a transformer block on channels-first sequences."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import FeedForward
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.gelu import GELUS
from coreml_sd.mobile.linear_to_conv import linear_to_conv
from coreml_sd.mobile.options import MobileOptions


class MobileGEGLU(nn.Module):
    """`GEGLU` on `(B, C, 1, S)`: half of the channels gates the other half by a GELU."""

    def __init__(self, source: Any, options: MobileOptions) -> None:
        super().__init__()
        if type(source) is not GEGLU:
            raise UserError(
                f"feed-forward activation {type(source).__name__} has no mobile form: only GEGLU"
            )
        self.proj = linear_to_conv(source.proj)
        self.gelu = GELUS[options.gelu]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden, gate = self.proj(x).chunk(2, dim=1)
        return hidden * self.gelu(gate)  # type: ignore[no-any-return]


class MobileFeedForward(nn.Module):
    """`FeedForward` with GEGLU on `(B, C, 1, S)`.

    Raises:
        UserError: another activation, or layers that are not known.
    """

    def __init__(self, source: Any, options: MobileOptions) -> None:
        super().__init__()
        if type(source) is not FeedForward:
            raise UserError(f"feed-forward of type {type(source).__name__} has no mobile form")
        # Index 1 is a dropout, kept as nothing so that the weights keep their names.
        self.net = nn.ModuleList(
            [MobileGEGLU(source.net[0], options), nn.Identity(), linear_to_conv(source.net[2])]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net[2](self.net[0](x))  # type: ignore[no-any-return]
