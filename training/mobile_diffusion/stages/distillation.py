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
from training.mobile_diffusion.stages.denoiser import Denoiser, Samples


class GuidedStudent(nn.Module):
    """A UNet that is told the scale: x_t, t, token ids, scale `(B,)` to v, in one pass."""

    def __init__(self, unet: MobileDiffusionUNet, text_encoder: nn.Module) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        self.width = int(unet.config["time_cond_proj_dim"])

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, ids: torch.Tensor, scale: torch.Tensor
    ) -> torch.Tensor:
        context = self.text_encoder(ids).last_hidden_state
        told = embedded_scale(scale, self.width)
        v: torch.Tensor = self.unet(x, t, context, timestep_cond=told).sample
        return v


def new_student(denoiser: Denoiser, width: int) -> GuidedStudent:
    """A copy of a denoiser that is told the scale and does not heed it yet; the text encoder is
    frozen."""
    unet: MobileDiffusionUNet = MobileDiffusionUNet.from_config(
        denoiser.unet.config, time_cond_proj_dim=width
    )
    told = unet.time_embedding.cond_proj
    nn.init.zeros_(told.weight)
    missing = {*unet.load_state_dict(denoiser.unet.state_dict(), strict=False).missing_keys}
    assert missing == {"time_embedding.cond_proj.weight"}, missing
    denoiser.text_encoder.requires_grad_(False)
    return GuidedStudent(unet, denoiser.text_encoder)


class GuidanceStage:
    """The student's one pass learns the teacher's two."""

    def __init__(
        self,
        loop: Loop,
        config: GuidanceConfig,
        samples: Samples,
        schedule: Schedule,
        teacher: Denoiser,
    ) -> None:
        self.loop, self.config, self.samples, self.schedule = loop, config, samples, schedule
        self.teacher = teacher.eval().requires_grad_(False)

    def turns(self) -> list[Turn]:
        return [Turn("student", self.losses)]

    def losses(self, chance: Chance) -> Losses:
        clean, ids = self.samples.draw(chance)
        t = chance.integers(0, self.schedule.last + 1)
        x = self.schedule.start_or_noisy(clean, chance.normal(*clean.shape[1:]), t)
        empty = self.samples.ids([""] * len(ids)).to(ids.device)
        teacher = Guided(self.teacher, empty)
        scale = _scales(chance, self.config.guidance)
        student = self.loop.networks["student"]
        return {
            "guidance": guidance_loss(student, teacher, self.schedule, x, t, ids, scale),
        }


class StepsStage:
    """The student's few steps learn those of a teacher that is told the scale too."""

    def __init__(
        self,
        loop: Loop,
        config: StepsConfig,
        samples: Samples,
        schedule: Schedule,
        teacher: GuidedDenoiser,
    ) -> None:
        self.loop, self.config, self.samples, self.schedule = loop, config, samples, schedule
        self.teacher = teacher
        self.grid = StepGrid.of(schedule, config.teacher_steps, config.student_steps)

    def turns(self) -> list[Turn]:
        return [Turn("student", self.losses)]

    def losses(self, chance: Chance) -> Losses:
        clean, ids = self.samples.draw(chance)
        noise = chance.normal(*clean.shape[1:])
        step = chance.integers(0, len(self.grid))
        scale = _scales(chance, self.config.guidance)
        student = self.loop.networks["student"]
        losses = {
            "steps": step_loss(
                student, self.teacher, self.schedule, self.grid, clean, noise, step, ids, scale
            )
        }
        if self.config.plain:
            t = self.grid.times[:, 0].to(step.device)[step]
            loss = plain_loss(student, self.schedule, clean, noise, t, ids)
            losses["plain"] = self.config.plain * loss
        return losses


def _scales(chance: Chance, between: tuple[float, float]) -> torch.Tensor:
    """A scale for each sample, equally likely anywhere between two, `(B,)`."""
    low, high = between
    return low + (high - low) * chance.uniform()
