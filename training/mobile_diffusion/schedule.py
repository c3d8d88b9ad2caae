"""The noise schedule of the objectives: x_t = a_t x_0 + b_t noise, with a_t^2 + b_t^2 = 1.

`t` and `s` are timesteps `(B,)`, samples `(B, ...)`. -1 (`CLEAN`) is the step without noise, as the
end of diffusers' samplers where `set_alpha_to_one` is on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler

CLEAN = -1


@dataclass(frozen=True)
class Schedule:
    """`kept`: the kept part of the variance (`alphas_cumprod`) at each timestep, `[T]`."""

    kept: torch.Tensor

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Schedule:
        """From the config of a diffusers scheduler."""
        return cls(DDPMScheduler.from_config(dict(config)).alphas_cumprod)

    @property
    def last(self) -> int:
        """The timestep with the most noise."""
        return len(self.kept) - 1

    def signal(self, t: torch.Tensor) -> torch.Tensor:
        """a_t^2, `(B,)`; 1 at `CLEAN`."""
        kept = self.kept.to(t.device)
        return torch.where(t < 0, kept.new_ones(()), kept[t.clamp(min=0)])

    def snr(self, t: torch.Tensor) -> torch.Tensor:
        """Signal over noise, `(B,)`; infinite at `CLEAN`."""
        signal = self.signal(t)
        return signal / (1 - signal)

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t, drawn by the forward kernel q(x_t | x_0) where `noise` is normal."""
        a, b = self._factors(t, x0)
        return a * x0 + b * noise

    def start_or_noisy(
        self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor
    ) -> torch.Tensor:
        """x_t as a sampler has it: nothing but noise at the last timestep.

        The schedules in use leave a little of x_0 there, which no sampler has (2305.08891).
        """
        return torch.where(as_samples(t, x0) == self.last, noise, self.add_noise(x0, noise, t))

    def velocity(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """v = a_t noise - b_t x_0 (2202.00512)."""
        a, b = self._factors(t, x0)
        return a * noise - b * x0

    def clean(self, x: torch.Tensor, v: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_0 = a_t x_t - b_t v."""
        a, b = self._factors(t, x)
        return a * x - b * v

    def velocity_of(self, x: torch.Tensor, x0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The v that means x_0 at x_t, for t other than `CLEAN`: (a_t x_t - x_0) / b_t."""
        a, b = self._factors(t, x)
        return (a * x - x0) / b

    def noise(self, x: torch.Tensor, v: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The noise: b_t x_t + a_t v."""
        a, b = self._factors(t, x)
        return b * x + a * v

    def ddim_step(
        self, x: torch.Tensor, v: torch.Tensor, t: torch.Tensor, s: torch.Tensor
    ) -> torch.Tensor:
        """x_s from x_t and its v, without new noise (2010.02502); `s` may be `CLEAN`."""
        return self.add_noise(self.clean(x, v, t), self.noise(x, v, t), s)

    def clean_of_step(
        self, x: torch.Tensor, end: torch.Tensor, t: torch.Tensor, s: torch.Tensor
    ) -> torch.Tensor:
        """The x_0 with which one DDIM step from x_t leads to `end` at s < t (2202.00512)."""
        a_t, b_t = self._factors(t, x)
        a_s, b_s = self._factors(s, x)
        ratio = b_s / b_t
        return (end - ratio * x) / (a_s - ratio * a_t)

    def posterior(
        self, x: torch.Tensor, x0: torch.Tensor, t: torch.Tensor, s: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of q(x_s | x_t, x_0) for s < t (2006.11239, any step)."""
        signal_t, signal_s = self.signal(t), self.signal(s)
        step = signal_t / signal_s
        of_x0 = signal_s.sqrt() * (1 - step) / (1 - signal_t)
        of_x = step.sqrt() * (1 - signal_s) / (1 - signal_t)
        variance = (1 - signal_s) * (1 - step) / (1 - signal_t)
        return as_samples(of_x0, x0) * x0 + as_samples(of_x, x) * x, as_samples(variance.sqrt(), x0)

    def _factors(self, t: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """a_t and b_t, to be multiplied with samples."""
        signal = as_samples(self.signal(t), like)
        return signal.sqrt(), (1 - signal).sqrt()


def spaced(schedule: Schedule, steps: int) -> list[int]:
    """The timesteps of `steps` equal steps, noisiest first, then `CLEAN`: `steps` + 1 numbers.

    As diffusers has them with `timestep_spacing="trailing"`: the first one is the last timestep, as
    it must be where a sampler begins with nothing but noise.
    """
    count = len(schedule.kept)
    return [round(count * (steps - done) / steps) - 1 for done in range(steps + 1)]


def as_samples(each: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`(B,)` to be multiplied with `(B, ...)`."""
    return each.reshape(-1, *[1] * (like.dim() - 1))
