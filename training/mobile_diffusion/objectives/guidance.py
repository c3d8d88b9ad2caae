"""Guidance distillation: one pass that is told the scale, for the teacher's two (2210.03142; T1.7).

The paper's: the first stage of 2210.03142, its weight by truncated signal-to-noise ratio, scales
drawn anew for each sample. Ours: that the student predicts v.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from training.mobile_diffusion.objectives.network import Denoiser, GuidedDenoiser, each_mean
from training.mobile_diffusion.schedule import Schedule, as_samples

_LONGEST_PERIOD = 10_000.0
_FACTOR = 1000.0


@dataclass(frozen=True)
class Guided:
    """A network that predicts v, guided by its own prediction for the empty condition (2207.12598).

    A scale of 1 is the condition alone. It takes two passes.
    """

    network: Denoiser
    empty: Any

    def __call__(
        self, x: torch.Tensor, t: torch.Tensor, condition: Any, scale: torch.Tensor, /
    ) -> torch.Tensor:
        without = self.network(x, t, self.empty)
        return without + as_samples(scale, x) * (self.network(x, t, condition) - without)


@dataclass(frozen=True)
class Unguided:
    """A network that predicts v, whatever the scale, in one pass."""

    network: Denoiser

    def __call__(
        self, x: torch.Tensor, t: torch.Tensor, condition: Any, scale: torch.Tensor, /
    ) -> torch.Tensor:
        return self.network(x, t, condition)


def embedded_scale(scale: torch.Tensor, width: int) -> torch.Tensor:
    """`(B,)` to `(B, width)`: what a UNet with `time_cond_proj_dim` takes as `timestep_cond`.

    The same numbers as `guidance_embedding` of `coreml_sd.models.denoiser`.
    """
    half = width // 2
    places = torch.arange(half, dtype=torch.float64, device=scale.device)
    falling = torch.exp(places * (-math.log(_LONGEST_PERIOD) / max(half - 1, 1)))
    angles = (scale.double() - 1)[:, None] * _FACTOR * falling
    waves = [angles.sin(), angles.cos(), angles.new_zeros(len(scale), width % 2)]
    return torch.cat(waves, dim=1).float()


def truncated_snr_error(
    schedule: Schedule, predicted: torch.Tensor, wanted: torch.Tensor, t: torch.Tensor
) -> torch.Tensor:
    """Squared error of x_0 times max(SNR, 1) (2202.00512), `(B,)`, told from two predictions of v.

    x_0 differs by b_t times what v differs by, so that v's weight is max(a_t^2, b_t^2): between a
    half and 1, whatever the timestep.
    """
    signal = schedule.signal(t)
    return each_mean((predicted - wanted).square()) * torch.maximum(signal, 1 - signal)


def guidance_loss(
    student: GuidedDenoiser,
    teacher: GuidedDenoiser,
    schedule: Schedule,
    x: torch.Tensor,
    t: torch.Tensor,
    condition: Any,
    scale: torch.Tensor,
) -> torch.Tensor:
    """The student's one pass against the teacher's two (`Guided`), the mean over the batch."""
    with torch.no_grad():
        wanted = teacher(x, t, condition, scale)
    predicted = student(x, t, condition, scale)
    return truncated_snr_error(schedule, predicted, wanted, t).mean()
