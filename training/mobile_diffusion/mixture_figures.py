"""The figures of the mixture study: how near to the data, and how near to the teacher."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from training.mobile_diffusion.mixture import Mixture, mmd
from training.mobile_diffusion.mixture_study import (
    FAR,
    NEAR,
    SCALES,
    SCHEDULE,
    Setting,
    generator,
    pretrained,
    student,
)
from training.mobile_diffusion.objectives.guidance import Guided
from training.mobile_diffusion.objectives.step_distillation import StepGrid, sample
from training.mobile_diffusion.objectives.ufogen import one_step
from training.mobile_diffusion.point_network import EMPTY, PointNetwork
from training.mobile_diffusion.schedule import spaced

POINTS = 2000
KERNELS = (0.05, 0.1, 0.2, 0.4)  # widths, of the radius
TEACHER_STEPS, STUDENT_STEPS = 20, 8
# The generators: what is changed of UFOGen.
GENERATORS: dict[str, dict[str, Any]] = {
    "UFOGen": {},
    "posterior": {"posterior": True},
    "reconstruction alone": {"adversarial": 0.0},
}
BEFORE = "before, one step"
_EMPTY = torch.tensor([EMPTY])


@dataclass(frozen=True)
class Drawn:
    """How points lie to the data.

    Attributes:
        distance: maximum mean discrepancy to points of the data.
        least, most: of the modes' shares; 1 is a mode's own.
        seconds: of the processor, spent on the training.
    """

    distance: float
    least: float
    most: float
    seconds: float = 0.0


@dataclass(frozen=True)
class Followed:
    """How a student follows its teacher from the same noise, in radii, at one scale.

    Attributes:
        student: root of the mean squared distance of its 8 steps from the teacher's 20.
        teacher: of the teacher's own 8.
        unheeding: of the student's when told the lowest scale, whatever the scale is.
        shift, wanted: by how much a larger scale than the lowest moves the points' mean, `(2,)`,
            of the student and of the teacher.
    """

    scale: float
    student: float
    teacher: float
    unheeding: float
    shift: torch.Tensor
    wanted: torch.Tensor


def measured(mixture: Mixture, points: torch.Tensor, seconds: float = 0.0) -> Drawn:
    """Points `(n, 2)` against as many of the data."""
    shares = mixture.shares(points)
    widths = tuple(mixture.radius * part for part in KERNELS)
    distance = mmd(points, of_the_data(mixture, 1), widths)
    return Drawn(distance, float(shares.min()), float(shares.max()), seconds)


def of_the_data(mixture: Mixture, seed: int) -> torch.Tensor:
    """Points of the mixture itself."""
    chance = torch.Generator().manual_seed(seed)
    modes = torch.randint(0, mixture.modes, (POINTS,), generator=chance)
    return mixture.samples(modes, torch.randn(POINTS, 2, generator=chance))


@torch.no_grad()
def before(setting: Setting, network: PointNetwork) -> dict[str, Drawn]:
    """The pretrained network: its many steps and its one, and the data against itself."""
    noise, scale = _noise(), torch.ones(POINTS)

    def plain(x: torch.Tensor, t: torch.Tensor, condition: Any, _: torch.Tensor, /) -> torch.Tensor:
        v: torch.Tensor = network(x, t, condition)
        return v

    times = torch.tensor(spaced(SCHEDULE, TEACHER_STEPS))
    many = sample(plain, SCHEDULE, noise, times, _EMPTY, scale)
    one = one_step(network, SCHEDULE, noise, _EMPTY)
    return {
        "the data": measured(setting.mixture, of_the_data(setting.mixture, 2)),
        f"before, {TEACHER_STEPS} steps": measured(setting.mixture, many),
        BEFORE: measured(setting.mixture, one),
    }


def generated(setting: Setting, network: PointNetwork, name: str) -> Drawn:
    """One step of a generator of `GENERATORS`, trained here."""
    begun = time.process_time()
    trained = generator(setting, network, **GENERATORS[name])
    seconds = time.process_time() - begun
    with torch.no_grad():
        points = one_step(trained, SCHEDULE, _noise(), _EMPTY)
    return measured(setting.mixture, points, seconds)


def followed(mixture: Mixture, teacher: PointNetwork, learned: PointNetwork) -> list[Followed]:
    """The student at scales from the lowest to the highest; half the points have each condition."""
    guided = Guided(teacher, _EMPTY)
    noise, condition = _noise(), torch.arange(POINTS) % 2

    def drawn(network: Any, steps: int, scale: float) -> torch.Tensor:
        times = torch.tensor(spaced(SCHEDULE, steps))
        return sample(network, SCHEDULE, noise, times, condition, torch.full((POINTS,), scale))

    def apart(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).square().sum(dim=1).mean().sqrt()) / mixture.radius

    def moved(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b)[condition == 0].mean(dim=0)

    low, high = SCALES
    found = []
    unheeding, lowest = drawn(learned, STUDENT_STEPS, low), drawn(guided, TEACHER_STEPS, low)
    for scale in (low, (low + high) / 2, high):
        ours, wanted = drawn(learned, STUDENT_STEPS, scale), drawn(guided, TEACHER_STEPS, scale)
        few = drawn(guided, STUDENT_STEPS, scale)
        found.append(
            Followed(
                scale,
                student=apart(ours, wanted),
                teacher=apart(few, wanted),
                unheeding=apart(unheeding, wanted),
                shift=moved(ours, unheeding),
                wanted=moved(wanted, lowest),
            )
        )
    return found


def lines(say: Callable[[str], None]) -> None:
    """Train everything and say the tables, a line at a time."""
    near = pretrained(NEAR.mixture)
    _say_generators("NEAR", NEAR, near, say)
    _say_generators("FAR", FAR, pretrained(FAR.mixture), say)
    begun = time.process_time()
    learned = student(NEAR.mixture, near, StepGrid.of(SCHEDULE, TEACHER_STEPS, STUDENT_STEPS))
    seconds = time.process_time() - begun
    say(f"NEAR, from the teacher's {TEACHER_STEPS} steps, in radii ({seconds:.1f} CPU s)")
    columns = ("student, 8", "teacher, 8", "unheeding")
    say(f"{'scale':8}{''.join(f'{each:>12}' for each in columns)}{'shift':>16}{'wanted':>16}")
    for each in followed(NEAR.mixture, near, learned):
        distances = (each.student, each.teacher, each.unheeding)
        shifts = ("{:.2f}, {:.2f}".format(*shift) for shift in (each.shift, each.wanted))
        told = "".join(f"{distance:12.3f}" for distance in distances)
        say(f"{each.scale:<8g}{told}" + "".join(f"{shift:>16}" for shift in shifts))


def _say_generators(
    name: str, setting: Setting, network: PointNetwork, say: Callable[[str], None]
) -> None:
    def row(label: str, drawn: Drawn) -> None:
        shares = f"{drawn.least:.2f} to {drawn.most:.2f}"
        say(f"{label:22}{drawn.distance:8.4f}{shares:>14}{drawn.seconds:8.1f}")

    mixture = setting.mixture
    say(f"{name}: radius {mixture.radius:g}, deviation {mixture.deviation:g}, jump {setting.jump}")
    say(f"{'':22}{'MMD':>8}{'shares':>14}{'CPU s':>8}")
    for label, drawn in before(setting, network).items():
        row(label, drawn)
    for label in GENERATORS:
        row(label, generated(setting, network, label))


def _noise() -> torch.Tensor:
    return torch.randn(POINTS, 2, generator=torch.Generator().manual_seed(7))
