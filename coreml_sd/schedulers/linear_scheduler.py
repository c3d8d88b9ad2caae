"""The weights of a scheduler's steps, read off diffusers' own by running it on unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coreml_sd.schedulers.linear_step import GUIDED, LATENTS, LinearStep
from coreml_sd.schedulers.schedulers import begin, scaled_input, takes_generator
from coreml_sd.upstream.diffusers_hooks import drawn_by

_NEGLIGIBLE = 1e-6  # relative to a step's weights, which diffusers computes in fp32
_REPLAY_GATE = 1e-5  # relative error of the table against the scheduler itself
_PEAK = 10.0  # of the values it is proven on: far outside any range that a scheduler clips to

Vector = NDArray[np.float64]


def linear_steps(scheduler: Any, steps: int) -> tuple[LinearStep, ...] | None:
    """The steps of a diffusers scheduler as weights; None where it is not such a sum.

    A step is read off the scheduler by running it on unit vectors: one for each latent, prediction
    and noise. What it remembers from further back than the table goes (UniPC's corrected sample)
    is replaced by the latents that it went into. The table is then compared with the scheduler on
    random values, so that clipping and thresholding are noticed.

    Args:
        scheduler: of any state; it is not changed.
        steps: the number that `set_timesteps` is called with.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.9).
    """
    observed = _observe(scheduler, steps)
    if observed is None:
        return None
    table = []
    for index, (result, (timestep, scale, draws)) in enumerate(
        zip(observed.results, observed.facts, strict=True)
    ):
        weights = _within_memory(result, index, observed.results)
        if weights is None:
            return None
        latents, guided, noise = weights
        table.append(LinearStep(timestep, scale, latents, guided, noise, draws))
    return tuple(table) if _replays(scheduler, steps, table) else None


@dataclass(frozen=True)
class _Observed:
    """`results`: step -> `(3, steps)`, what the next latent takes of each latent, prediction and
    noise so far. `facts`: step -> timestep, input scale, whether noise was drawn."""

    results: list[Vector]
    facts: list[tuple[float, float, bool]]


class _Run:
    """One run of a fresh copy of a scheduler, with its noise handed in instead of drawn."""

    def __init__(self, scheduler: Any, steps: int) -> None:
        self.scheduler = type(scheduler).from_config(scheduler.config)
        begin(self.scheduler, steps)
        self.timesteps = self.scheduler.timesteps

    def scale(self, timestep: torch.Tensor) -> float:
        """What the latent is multiplied with before the UNet reads it."""
        return float(scaled_input(self.scheduler, torch.ones(1, 1, 1, 1), timestep))

    def step(
        self, guided: torch.Tensor, timestep: torch.Tensor, latent: torch.Tensor, noise: Any
    ) -> tuple[torch.Tensor, int]:
        """The next latent, and how often noise was drawn."""
        draws = 0

        def draw(*args: Any, **kwargs: Any) -> torch.Tensor:
            nonlocal draws
            draws += 1
            return noise  # type: ignore[no-any-return]

        extra = {"generator": torch.Generator()} if takes_generator(self.scheduler) else {}
        with drawn_by(self.scheduler, draw):
            result = self.scheduler.step(guided, timestep, latent, **extra).prev_sample
        return result, draws


def _observe(scheduler: Any, steps: int) -> _Observed | None:
    """Run on unit vectors: every step gets a latent, a prediction and a noise of its own."""
    run = _Run(scheduler, steps)
    count = len(run.timesteps)
    basis = torch.eye(3 * count).reshape(3, count, 1, 1, 1, 3 * count)
    results, facts = [], []
    for index, timestep in enumerate(run.timesteps):
        scale = run.scale(timestep)
        latent, guided, noise = basis[:, index]
        result, draws = run.step(guided, timestep, latent, noise)
        if draws > 1 or not torch.isfinite(result).all():
            return None
        results.append(result.double().numpy().reshape(3, count))
        facts.append((float(timestep), scale, draws == 1))
    return _Observed(results, facts)


def _within_memory(
    result: Vector, index: int, results: Sequence[Vector]
) -> tuple[tuple[float, ...], tuple[float, ...], float] | None:
    """The weights of one step, newest first; None where it reads what the table does not hold.

    What lies too far back is cancelled by adding multiples of `x - (what x was made of) = 0` for
    the latents in the table, as few as it takes.
    """
    remembered = np.zeros(result.shape, bool)
    for row, depth in enumerate((LATENTS, GUIDED, 1)):
        remembered[row, max(0, index + 1 - depth) : index + 1] = True
    identities: list[Vector] = []
    for newest in range(index, max(0, index + 1 - LATENTS) - 1, -1):
        weights = _cancelled(result, identities, ~remembered)
        if weights is not None:
            padded = np.concatenate([np.zeros((3, GUIDED)), weights[:, : index + 1]], axis=1)
            latents, guided, noise = padded[:, ::-1].tolist()
            return tuple(latents[:LATENTS]), tuple(guided[:GUIDED]), noise[0]
        if newest > 0:
            identity = -results[newest - 1]
            identity[0, newest] += 1.0
            identities.append(identity)
    return None


def _cancelled(
    result: Vector, identities: Sequence[Vector], outside: NDArray[np.bool_]
) -> Vector | None:
    """`result` plus multiples of the identities that leave nothing `outside`, or None."""
    weights = result
    if identities:
        columns = np.stack([identity[outside] for identity in identities], axis=1)
        factors = np.linalg.lstsq(columns, -result[outside], rcond=_NEGLIGIBLE)[0]
        weights = result + np.tensordot(factors, np.stack(identities), 1)
    rest = np.abs(weights[outside]).max(initial=0.0)
    return weights if rest <= _NEGLIGIBLE * np.abs(result).max() else None


def _replays(scheduler: Any, steps: int, table: Sequence[LinearStep]) -> bool:
    """Whether the table gives what the scheduler gives for random predictions and noises."""
    run = _Run(scheduler, steps)
    generator = torch.Generator().manual_seed(0)
    shape = (1, 1, 8, 8)
    latent = _PEAK * torch.randn(shape, generator=generator)
    latents, guided = [latent] * LATENTS, [torch.zeros(shape)] * GUIDED
    for step, timestep in zip(table, run.timesteps, strict=True):
        run.scale(timestep)
        prediction, noise = _PEAK * torch.randn((2, *shape), generator=generator)
        latent, _ = run.step(prediction, timestep, latent, noise)
        guided = [prediction, *guided[:-1]]
        latents = [step.apply(latents, guided, noise), *latents[:-1]]
        error = (latents[0] - latent).abs().max()
        if not error <= _REPLAY_GATE * latent.abs().max():
            return False
    return True
