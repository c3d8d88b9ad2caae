"""The plain loss: the squared error of v, weighted by the signal-to-noise ratio."""

from __future__ import annotations

from typing import Any

import torch

from training.mobile_diffusion.objectives.network import Denoiser, each_mean
from training.mobile_diffusion.schedule import Schedule

SNR_LIMIT = 5.0


def min_snr_weights(snr: torch.Tensor) -> torch.Tensor:
    """Min-SNR weights for v-prediction (2303.09556)."""
    return snr.clamp(max=SNR_LIMIT) / (snr + 1)


def velocity_loss(
    network: Denoiser,
    schedule: Schedule,
    x0: torch.Tensor,
    noise: torch.Tensor,
    t: torch.Tensor,
    condition: Any,
) -> torch.Tensor:
    """The mean over the batch of the weighted squared error of v."""
    predicted = network(schedule.add_noise(x0, noise, t), t, condition)
    errors = each_mean((predicted - schedule.velocity(x0, noise, t)).square())
    return (errors * min_snr_weights(schedule.snr(t))).mean()
