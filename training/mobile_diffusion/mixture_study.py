"""The objectives on eight Gaussians on a circle: trained within a minute, told in figures.

The schedule is Stable Diffusion's: at its last timestep it keeps 0.068 of the data, of which a
sampler has nothing.

`NEAR`: the circle is small, so that the last timestep is nearly noise, and only after a jump of
half of the timesteps can the modes be told apart. The posterior then is nearly the forward kernel
(quite so where the last timestep is noise alone), and both draw equally well.
`FAR`: the circle is large, as are distances in latents (a difference of 1 in each number of a
16x16x8 latent is one of 45), so that the modes can be told apart after a jump of 80 timesteps,
and x_s still holds 0.6 of x_t. There the posterior's generator is wrong: what the discriminator
compares is x_s, in which the generated x_0 makes up for what x_t holds already.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from training.mobile_diffusion.chance import Chance
from training.mobile_diffusion.mixture import Mixture
from training.mobile_diffusion.objectives.diffusion import velocity_loss
from training.mobile_diffusion.objectives.guidance import Guided, guidance_loss
from training.mobile_diffusion.objectives.step_distillation import (
    StepGrid,
    plain_loss,
    step_loss,
)
from training.mobile_diffusion.objectives.ufogen import Ufogen
from training.mobile_diffusion.point_network import EMPTY, PointNetwork
from training.mobile_diffusion.schedule import Schedule

SCHEDULE = Schedule.from_config(
    {
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
    }
)
BATCH = 256
DECAY = 0.99  # of the average of the weights
SCALES = (2.0, 4.0)


@dataclass(frozen=True)
class Setting:
    """A mixture and the jump of its generators."""

    mixture: Mixture
    jump: int


NEAR = Setting(Mixture(radius=8, deviation=0.8), jump=500)
FAR = Setting(Mixture(radius=50, deviation=5), jump=80)


@dataclass(frozen=True)
class Data:
    """Points of a turn and their halves, some of them told as `EMPTY`."""

    points: torch.Tensor
    condition: torch.Tensor


def draw_data(mixture: Mixture, chance: Chance, empty: float) -> Data:
    """`empty`: the part without a condition."""
    modes = chance.integers(0, mixture.modes)
    points = mixture.samples(modes, chance.normal(2))
    half = torch.where(chance.uniform() < empty, EMPTY, modes * 2 // mixture.modes)
    return Data(points, half)


class Learner:
    """A network, its optimizer, whose rate falls along a cosine, and the average of its weights."""

    def __init__(self, network: nn.Module, steps: int, rate: float, momentum: float = 0.9) -> None:
        self.network, self.average = network, copy.deepcopy(network)
        self._steps, self._rate, self._done = steps, rate, 0
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=rate, betas=(momentum, 0.99), weight_decay=0.0, fused=True
        )

    def learn(self, loss: torch.Tensor) -> None:
        """One step; no other network's gradients are collected."""
        parameters = list(self.network.parameters())
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
        ):
            parameter.grad = gradient
        done = self._done / self._steps
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * (0.51 + 0.5 * math.cos(math.pi * done))
            group["lr"] *= min(1.0, (self._done + 1) / 50)
        self._optimizer.step()
        self._done += 1
        decay = min(DECAY, self._done / (9 + self._done))
        with torch.no_grad():
            for average, value in zip(self.average.parameters(), parameters, strict=True):
                average.lerp_(value, 1 - decay)


def pretrained(mixture: Mixture, steps: int = 1200) -> PointNetwork:
    """The plain loss, a fifth of the points without a condition."""
    torch.manual_seed(0)
    learner = Learner(PointNetwork(SCHEDULE, mixture.variance), steps, 5e-3)
    for step in range(steps):
        chance = Chance(0, step, 0, BATCH)
        data = draw_data(mixture, chance, 0.2)
        noise, t = chance.normal(2), chance.integers(0, SCHEDULE.last + 1)
        network: Any = learner.network
        learner.learn(velocity_loss(network, SCHEDULE, data.points, noise, t, data.condition))
    return _network(learner)


def generator(
    setting: Setting, network: PointNetwork, steps: int = 1300, **changes: Any
) -> PointNetwork:
    """One step by UFOGen, or by what `changes` make of it; without conditions."""
    objective = Ufogen(
        SCHEDULE,
        jump=setting.jump,
        at_last=0.9,
        reconstruction=1 / setting.mixture.variance,
        **changes,
    )
    torch.manual_seed(0)
    drawer = Learner(copy.deepcopy(network), steps, 6e-3, 0.5)
    judge = Learner(network.as_discriminator(), steps, 6e-3, 0.5)
    generates: Any = drawer.network
    for step in range(steps):
        if objective.adversarial:
            chance = Chance(1, step, 0, BATCH)
            data = draw_data(setting.mixture, chance, 1.0)
            draw = objective.draw(chance, data.points)
            judge.learn(
                objective.discriminator_loss(judge.network, generates, draw, data.condition)
            )
        chance = Chance(1, step, 1, BATCH)
        data = draw_data(setting.mixture, chance, 1.0)
        draw = objective.draw(chance, data.points)
        losses = objective.generator_losses(generates, judge.network, draw, data.condition)
        drawer.learn(torch.stack(list(losses.values())).sum())
    return _network(drawer)


def student(
    mixture: Mixture, teacher: PointNetwork, grid: StepGrid, steps: int = 700
) -> PointNetwork:
    """Told the scale, then taught to make one step for several; a quarter of the plain loss."""
    torch.manual_seed(0)
    guided: Any = Guided(teacher, torch.tensor([EMPTY]))
    learner = Learner(teacher.as_guided(), steps, 4e-3)
    network: Any = learner.network
    for step in range(steps):
        chance = Chance(2, step, 0, BATCH)
        data = draw_data(mixture, chance, 0.0)
        noise, low = chance.normal(2), SCALES[0]
        scale = low + (SCALES[1] - low) * chance.uniform()
        if step < steps // 4:
            t = chance.integers(0, SCHEDULE.last + 1)
            x = SCHEDULE.start_or_noisy(data.points, noise, t)
            loss = guidance_loss(network, guided, SCHEDULE, x, t, data.condition, scale)
        else:
            rows = chance.integers(0, len(grid))
            loss = step_loss(
                network, guided, SCHEDULE, grid, data.points, noise, rows, data.condition, scale
            )
            t = chance.integers(0, SCHEDULE.last + 1)
            loss = loss + 0.25 * plain_loss(
                network, SCHEDULE, data.points, noise, t, data.condition
            )
        learner.learn(loss)
    return _network(learner)


def _network(learner: Learner) -> PointNetwork:
    network: Any = learner.average
    return network.eval()  # type: ignore[no-any-return]
