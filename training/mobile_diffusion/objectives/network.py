"""The networks of the objectives, as they see them."""

from __future__ import annotations

from typing import Any, Protocol

import torch


class Denoiser(Protocol):
    """Predicts v (2202.00512) of `(B, ...)`."""

    def __call__(self, x: torch.Tensor, t: torch.Tensor, condition: Any, /) -> torch.Tensor: ...


class GuidedDenoiser(Protocol):
    """Predicts the v that guidance makes; it is told the scale, `(B,)`."""

    def __call__(
        self, x: torch.Tensor, t: torch.Tensor, condition: Any, scale: torch.Tensor, /
    ) -> torch.Tensor: ...


class Discriminator(Protocol):
    """Logits `(B, ...)`, above 0 where x_s looks like one of the data."""

    def __call__(self, x: torch.Tensor, s: torch.Tensor, condition: Any, /) -> torch.Tensor: ...


def each_mean(x: torch.Tensor) -> torch.Tensor:
    """`(B, ...)` to `(B,)`."""
    return x.flatten(1).mean(dim=1)
