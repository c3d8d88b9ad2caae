"""The feed-forward part of a transformer block on channels-first sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import FeedForward
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.gelu import GELUS
from coreml_sd.mobile.linear_to_conv import linear_to_conv
from coreml_sd.mobile.options import MobileOptions

Gate = Callable[[torch.Tensor], torch.Tensor]


class MobileGatedProjection(nn.Module):
    """Half of the projected channels, gated by the other half, on `(B, C, 1, S)`."""

    def __init__(self, projection: nn.Module, gate: Gate) -> None:
        super().__init__()
        self.proj = linear_to_conv(projection)
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden, gate = self.proj(x).chunk(2, dim=1)
        return hidden * self.gate(gate)  # type: ignore[no-any-return]


class MobileFeedForward(nn.Module):
    """`FeedForward` with GEGLU on `(B, C, 1, S)`.

    Raises:
        UserError: another activation, or layers that are not known.
    """

    def __init__(self, source: Any, options: MobileOptions) -> None:
        super().__init__()
        gate = self._gate(source, options)
        # Index 1 is a dropout, kept as nothing so that the weights keep their names.
        self.net = nn.ModuleList(
            [
                MobileGatedProjection(source.net[0].proj, gate),
                nn.Identity(),
                linear_to_conv(source.net[2]),
            ]
        )

    def _gate(self, source: Any, options: MobileOptions) -> Gate:
        """The source's activation, once the source is known to have this form."""
        if type(source) is not FeedForward:
            raise UserError(f"feed-forward of type {type(source).__name__} has no mobile form")
        if type(source.net[0]) is not GEGLU:
            name = type(source.net[0]).__name__
            raise UserError(f"feed-forward activation {name} has no mobile form: only GEGLU")
        return GELUS[options.gelu]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net[2](self.net[0](x))  # type: ignore[no-any-return]
