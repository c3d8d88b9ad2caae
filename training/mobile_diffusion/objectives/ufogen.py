"""One step by a diffusion GAN: UFOGen (2311.09257), the last stage of MobileDiffusion.

The paper's: the generator predicts x_0 from x_t; the drawn x_s is noised anew by the forward kernel
q(x_s | x_0), not by the posterior; the discriminator sees x_s, s and the condition, and its loss
is the non-saturating one; the squared error of x_0 beside it, with the weight that SIDDM's
divergence leaves when it is told in x_0; training steps of a quarter of the timesteps.
Ours: that weight is derived, not read, and limited; a part of the batch begins at the last
timestep, with nothing but noise, as a one-step sampler does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from training.mobile_diffusion.chance import Chance
from training.mobile_diffusion.objectives.diffusion import SNR_LIMIT
from training.mobile_diffusion.objectives.network import Denoiser, Discriminator, each_mean
from training.mobile_diffusion.schedule import CLEAN, Schedule


@dataclass(frozen=True)
class Draw:
    """What one turn drew; `noisy`, `real` and `noise` have noises of their own.

    Attributes:
        clean: x_0 of the data.
        t: where the generator begins, `(B,)`; `s`: where the discriminator looks, `s` < `t`.
        noisy: x_t, the generator's input.
        real: x_s of the data.
        noise: with it the generated x_0 becomes the drawn x_s.
    """

    clean: torch.Tensor
    t: torch.Tensor
    s: torch.Tensor
    noisy: torch.Tensor
    real: torch.Tensor
    noise: torch.Tensor


@dataclass(frozen=True)
class Ufogen:
    """The two losses.

    Attributes:
        jump: from t to s, in timesteps.
        reconstruction: lambda, the weight of the squared error of x_0.
        at_last: the part of the samples that begins at the last timestep, by chance.
        adversarial: weight of the discriminator's term; 0 is the control without it.
        posterior: draw x_s by q(x_s | x_t, x_0), as models before UFOGen (2112.07804): a control.
    """

    schedule: Schedule
    jump: int = 250
    reconstruction: float = 1.0
    at_last: float = 0.25
    adversarial: float = 1.0
    posterior: bool = False

    def draw(self, chance: Chance, clean: torch.Tensor) -> Draw:
        """Timesteps and noises of a turn for the data `(B, ...)`."""
        last = self.schedule.last
        anywhere = chance.integers(0, last)
        t = torch.where(chance.uniform() < self.at_last, last, anywhere)
        s = (t - self.jump).clamp(min=CLEAN)
        shape = clean.shape[1:]
        noisy = self.schedule.start_or_noisy(clean, chance.normal(*shape), t)
        real = self.schedule.add_noise(clean, chance.normal(*shape), s)
        return Draw(clean, t, s, noisy, real, chance.normal(*shape))

    def generated(self, generator: Denoiser, draw: Draw, condition: Any) -> torch.Tensor:
        """x_0, read from the v of a network that starts as the pretrained one."""
        v = generator(draw.noisy, draw.t, condition)
        return self.schedule.clean(draw.noisy, v, draw.t)

    def noised(self, generated: torch.Tensor, draw: Draw) -> torch.Tensor:
        """The drawn x_s."""
        if self.posterior:
            mean, deviation = self.schedule.posterior(draw.noisy, generated, draw.t, draw.s)
            return mean + deviation * draw.noise
        return self.schedule.add_noise(generated, draw.noise, draw.s)

    def reconstruction_weights(self, draw: Draw) -> torch.Tensor:
        """gamma_t, `(B,)`: a_t^2 / (1 - a_t^2 / a_s^2), limited.

        Twice the weight of |x_0 - x_0'|^2 in SIDDM's divergence of q(x_t | x_s), with x_s told in
        x_0. It is small where there is only noise, and there a mean is no good answer.
        """
        signal = self.schedule.signal(draw.t)
        weights = signal / (1 - signal / self.schedule.signal(draw.s))
        return weights.clamp(max=SNR_LIMIT)

    def discriminator_loss(
        self, discriminator: Discriminator, generator: Denoiser, draw: Draw, condition: Any
    ) -> torch.Tensor:
        """-log D(real) - log(1 - D(drawn)); 2 ln 2 where the logits are 0."""
        with torch.no_grad():
            drawn = self.noised(self.generated(generator, draw, condition), draw)
        of_real = discriminator(draw.real, draw.s, condition)
        of_drawn = discriminator(drawn, draw.s, condition)
        return F.softplus(-of_real).mean() + F.softplus(of_drawn).mean()

    def generator_losses(
        self, generator: Denoiser, discriminator: Discriminator, draw: Draw, condition: Any
    ) -> dict[str, torch.Tensor]:
        """Weighted terms: `reconstruction`, and `adversarial`: -log D(drawn)."""
        generated = self.generated(generator, draw, condition)
        errors = each_mean((generated - draw.clean).square())
        weighted = (errors * self.reconstruction_weights(draw)).mean()
        losses = {"reconstruction": self.reconstruction * weighted}
        if self.adversarial:
            logits = discriminator(self.noised(generated, draw), draw.s, condition)
            losses["adversarial"] = self.adversarial * F.softplus(-logits).mean()
        return losses


def one_step(
    generator: Denoiser, schedule: Schedule, noise: torch.Tensor, condition: Any
) -> torch.Tensor:
    """x_0 from nothing but noise, in one pass."""
    t = torch.full((len(noise),), schedule.last, device=noise.device)
    return schedule.clean(noise, generator(noise, t, condition), t)
