"""Step distillation with guidance: one step of the student for several of the guided teacher.

The papers': progressive distillation (2202.00512) with its target and its weight; that the teacher
is guided and the scale is drawn (SnapFusion, 2306.00980, with a range from 2 to 14; recalled, not
read); the plain loss of v beside it.
Ours: the student is told the scale and makes one pass, where SnapFusion's makes two. It learns from
the teacher at once, not by halves, because 20 steps do not halve to 8: between two of the student's
steps the teacher makes as many as it takes to be no coarser than on its own grid (3 for 20 to 8).
The plain loss is that of the scale 1, where guidance changes nothing; it wants the mean there, not
the teacher's end point, so that scales near 1 follow the teacher less well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from training.mobile_diffusion.objectives.diffusion import velocity_loss
from training.mobile_diffusion.objectives.guidance import truncated_snr_error
from training.mobile_diffusion.objectives.network import GuidedDenoiser
from training.mobile_diffusion.schedule import Schedule, spaced


@dataclass(frozen=True)
class StepGrid:
    """The student's steps and the teacher's between them.

    Attributes:
        times: `[N, n + 1]`: for each step of the student where it begins, what the teacher passes,
            where it ends; the last step ends at `CLEAN`.
    """

    times: torch.Tensor

    @classmethod
    def of(cls, schedule: Schedule, teacher_steps: int, student_steps: int) -> StepGrid:
        """The teacher makes at least `teacher_steps` in all, equally many for each step."""
        between = math.ceil(teacher_steps / student_steps)
        fine = spaced(schedule, between * student_steps)
        rows = [fine[i * between : (i + 1) * between + 1] for i in range(student_steps)]
        return cls(torch.tensor(rows))

    def __len__(self) -> int:
        return len(self.times)


@torch.no_grad()
def sample(
    network: GuidedDenoiser,
    schedule: Schedule,
    x: torch.Tensor,
    times: torch.Tensor,
    condition: Any,
    scale: torch.Tensor,
) -> torch.Tensor:
    """DDIM steps along `times`, `[n + 1]` for all samples or `(B, n + 1)` for each its own."""
    each = times.to(x.device).expand(len(x), -1)
    for t, s in zip(each.unbind(1)[:-1], each.unbind(1)[1:], strict=True):
        x = schedule.ddim_step(x, network(x, t, condition, scale), t, s)
    return x


def step_loss(
    student: GuidedDenoiser,
    teacher: GuidedDenoiser,
    schedule: Schedule,
    grid: StepGrid,
    x0: torch.Tensor,
    noise: torch.Tensor,
    steps: torch.Tensor,
    condition: Any,
    scale: torch.Tensor,
) -> torch.Tensor:
    """Loss of the student's steps `(B,)`, numbers of the grid's rows, 0 the noisiest.

    The target is the x_0 that would take the student in one step where the teacher ends.
    """
    times = grid.times.to(x0.device)[steps]
    t, s = times[:, 0], times[:, -1]
    x = schedule.start_or_noisy(x0, noise, t)
    end = sample(teacher, schedule, x, times, condition, scale)
    target = schedule.velocity_of(x, schedule.clean_of_step(x, end, t, s), t)
    predicted = student(x, t, condition, scale)
    return truncated_snr_error(schedule, predicted, target, t).mean()


def plain_loss(
    student: GuidedDenoiser,
    schedule: Schedule,
    x0: torch.Tensor,
    noise: torch.Tensor,
    t: torch.Tensor,
    condition: Any,
) -> torch.Tensor:
    """The plain loss of v, of the student that is told a scale of 1."""
    ones = torch.ones(len(x0), device=x0.device)
    return velocity_loss(
        lambda x, t, condition: student(x, t, condition, ones), schedule, x0, noise, t, condition
    )
