"""Stage `one_step`: the UNet as a generator against a copy of it as a discriminator (T3.11).

What is the paper's (2311.09257) and what is ours: `objectives/ufogen.py`.
"""

from __future__ import annotations

from typing import Any

from training.mobile_diffusion.chance import Chance
from training.mobile_diffusion.config import OneStepConfig
from training.mobile_diffusion.loop import Loop, Losses, Turn
from training.mobile_diffusion.objectives.ufogen import Ufogen
from training.mobile_diffusion.schedule import Schedule
from training.mobile_diffusion.stages.denoiser import TextSamples

# Of Adam, for both networks; ours, as in the study of the mixture (`mixture_study.py`).
BETAS = (0.5, 0.99)


class OneStepStage:
    """The turns of the discriminator and of the generator."""

    def __init__(
        self, loop: Loop, config: OneStepConfig, samples: TextSamples, schedule: Schedule
    ) -> None:
        self.loop, self.config, self.samples = loop, config, samples
        self.objective = Ufogen(
            schedule,
            jump=config.jump,
            reconstruction=config.reconstruction,
            at_last=config.at_last,
            adversarial=config.adversarial,
        )

    def turns(self) -> list[Turn]:
        """Without the adversarial term, the control, there is no discriminator."""
        turns = [Turn("generator", self.generator_losses)]
        if self.config.adversarial:
            every = self.config.discriminator_every
            turns.insert(0, Turn("discriminator", self.discriminator_losses, every=every))
        return turns

    def discriminator_losses(self, chance: Chance) -> Losses:
        clean, context = self.samples.draw(chance)
        draw = self.objective.draw(chance, clean)
        discriminator = self.loop.networks["discriminator"]
        generator = self.loop.still("generator")
        loss = self.objective.discriminator_loss(discriminator, generator, draw, context)
        return {"discriminator": loss}

    def generator_losses(self, chance: Chance) -> Losses:
        clean, context = self.samples.draw(chance)
        draw = self.objective.draw(chance, clean)
        discriminator: Any = self.loop.still("discriminator") if self.config.adversarial else None
        generator = self.loop.networks["generator"]
        losses = self.objective.generator_losses(generator, discriminator, draw, context)
        return losses
