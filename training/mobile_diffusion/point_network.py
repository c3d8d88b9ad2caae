"""A small network of points: denoiser, guided denoiser or discriminator of a mixture."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from training.mobile_diffusion.schedule import Schedule

EMPTY = 2  # the condition that tells nothing; 0 and 1 are the halves of the circle
_WIDTH = 64
_WAVES = 32
_FREQUENCY = 2.0


class PointNetwork(nn.Module):
    """Points `(B, 2)`, timesteps and conditions `(B,)` to v `(B, 2)`.

    Waves of the coordinates let it tell near points apart; it sees and gives numbers of size 1
    whatever the timestep.

    Args:
        variance: of each coordinate of the data.
        guided: it also takes a scale of guidance, which it does not heed before it was trained.
    """

    directions: torch.Tensor
    octaves: torch.Tensor

    def __init__(self, schedule: Schedule, variance: float, *, guided: bool = False) -> None:
        super().__init__()
        self.schedule, self.variance = schedule, variance
        self.register_buffer("directions", torch.randn(2, _WAVES) * _FREQUENCY)
        self.register_buffer("octaves", math.pi * 2 ** (torch.arange(8) * 0.75 - 1))
        self.first = nn.Linear(2 + 2 * _WAVES + 16, _WIDTH)
        self.condition = nn.Embedding(EMPTY + 1, _WIDTH)
        nn.init.zeros_(self.condition.weight)
        self.scale = nn.Linear(8, _WIDTH, bias=False) if guided else None
        if self.scale is not None:
            nn.init.zeros_(self.scale.weight)
        self.hidden = nn.ModuleList([nn.Linear(_WIDTH, _WIDTH) for _ in range(2)])
        self.last = nn.Linear(_WIDTH, 2)

    def forward(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        condition: torch.Tensor,
        scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        signal = self.schedule.signal(t)[:, None]
        hidden = self._features(x, t, condition, signal)
        if self.scale is not None and scale is not None:
            angles = scale[:, None] * (0.3 * torch.arange(1, 5))
            hidden = hidden + self.scale(torch.cat([angles.sin(), angles.cos()], dim=1))
        hidden = F.silu(hidden)
        for layer in self.hidden:
            hidden = hidden + F.silu(layer(hidden))
        size = ((1 - signal) * self.variance + signal).sqrt()
        v: torch.Tensor = self.last(hidden) * size
        return v

    def as_guided(self) -> PointNetwork:
        """One that also takes a scale, and starts as this one."""
        other = PointNetwork(self.schedule, self.variance, guided=True)
        other.load_state_dict(self.state_dict(), strict=False)
        return other

    def as_discriminator(self) -> PointDiscriminator:
        """One of the same weights whose logits are 0 at the start."""
        return PointDiscriminator(copy.deepcopy(self))

    def _features(
        self, x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor, signal: torch.Tensor
    ) -> torch.Tensor:
        x = 1.5 * x / (signal * self.variance + 1 - signal).sqrt()
        waves = x @ self.directions
        times = t[:, None] / len(self.schedule.kept) * self.octaves
        seen = torch.cat([x, waves.sin(), waves.cos(), times.sin(), times.cos()], dim=1)
        features: torch.Tensor = self.first(seen) + self.condition(condition)
        return features


class PointDiscriminator(nn.Module):
    """A logit for each point, `(B, 1)`, from a network's hidden layers."""

    def __init__(self, network: PointNetwork) -> None:
        super().__init__()
        self.network = network
        network.last = nn.Linear(_WIDTH, 1)
        nn.init.zeros_(network.last.weight)
        nn.init.zeros_(network.last.bias)

    def forward(self, x: torch.Tensor, s: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(x, s, condition)
        return logits
