"""Stage `guidance`: one pass that is told the scale. Stage `steps`: few steps of it (T1.7, T3.11).

What is the papers' and what is ours: `objectives/guidance.py`, `objectives/step_distillation.py`.
"""

from __future__ import annotations

import torch
from torch import nn

from coreml_sd.models.mobile_diffusion.unet import MobileDiffusionUNet
from training.mobile_diffusion.chance import Chance
from training.mobile_diffusion.config import GuidanceConfig, StepsConfig
from training.mobile_diffusion.loop import Loop, Losses, Turn
from training.mobile_diffusion.objectives.guidance import Guided, embedded_scale, guidance_loss
from training.mobile_diffusion.objectives.network import GuidedDenoiser
from training.mobile_diffusion.objectives.step_distillation import StepGrid, plain_loss, step_loss
from training.mobile_diffusion.schedule import Schedule
from training.mobile_diffusion.stages.denoiser import TextDenoiser, TextSamples


class GuidedStudent(nn.Module):
    """A UNet that is told the scale: x_t, t, states `(B, T, D)`, scale `(B,)` to v, in one pass."""

    def __init__(self, unet: MobileDiffusionUNet) -> None:
        super().__init__()
        self.unet = unet
        self.width = int(unet.config["time_cond_proj_dim"])

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, scale: torch.Tensor
    ) -> torch.Tensor:
        told = embedded_scale(scale, self.width)
        v: torch.Tensor = self.unet(x, t, context, timestep_cond=told).sample
        return v


def new_student(unet: MobileDiffusionUNet, width: int) -> GuidedStudent:
    """A copy of a UNet that is told the scale and does not heed it yet."""
    told: MobileDiffusionUNet = MobileDiffusionUNet.from_config(
        unet.config, time_cond_proj_dim=width
    )
    weights = {"time_embedding.cond_proj.weight": told.time_embedding.cond_proj.weight * 0}
    told.load_state_dict({**unet.state_dict(), **weights})
    return GuidedStudent(told)


class GuidanceStage:
    """The student's one pass learns the teacher's two."""

    def __init__(
        self,
        loop: Loop,
        config: GuidanceConfig,
        samples: TextSamples,
        schedule: Schedule,
        teacher: TextDenoiser,
    ) -> None:
        self.loop, self.config, self.samples, self.schedule = loop, config, samples, schedule
        self.teacher = Guided(teacher.eval().requires_grad_(False), samples.states([""]))

    def turns(self) -> list[Turn]:
        return [Turn("student", self.losses)]

    def losses(self, chance: Chance) -> Losses:
        clean, context = self.samples.draw(chance)
        t = chance.integers(0, self.schedule.last + 1)
        x = self.schedule.start_or_noisy(clean, chance.normal(*clean.shape[1:]), t)
        scale = _scales(chance, self.config.guidance)
        student = self.loop.networks["student"]
        loss = guidance_loss(student, self.teacher, self.schedule, x, t, context, scale)
        return {"guidance": loss}


class StepsStage:
    """The student's few steps learn those of a teacher that is told the scale too."""

    def __init__(
        self,
        loop: Loop,
        config: StepsConfig,
        samples: TextSamples,
        schedule: Schedule,
        teacher: GuidedDenoiser,
    ) -> None:
        self.loop, self.config, self.samples, self.schedule = loop, config, samples, schedule
        self.teacher = teacher
        self.grid = StepGrid.of(schedule, config.teacher_steps, config.student_steps)

    def turns(self) -> list[Turn]:
        return [Turn("student", self.losses)]

    def losses(self, chance: Chance) -> Losses:
        clean, context = self.samples.draw(chance)
        noise = chance.normal(*clean.shape[1:])
        step = chance.integers(0, len(self.grid))
        scale = _scales(chance, self.config.guidance)
        student = self.loop.networks["student"]
        loss = step_loss(
            student, self.teacher, self.schedule, self.grid, clean, noise, step, context, scale
        )
        losses = {"steps": loss}
        if self.config.plain:
            t = self.grid.times[:, 0].to(step.device)[step]
            plain = plain_loss(student, self.schedule, clean, noise, t, context)
            losses["plain"] = self.config.plain * plain
        return losses


def _scales(chance: Chance, between: tuple[float, float]) -> torch.Tensor:
    """A scale for each sample, equally likely anywhere between two, `(B,)`."""
    low, high = between
    return low + (high - low) * chance.uniform()
