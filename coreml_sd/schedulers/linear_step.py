"""One denoising step as a weighted sum, and the names that its tensors and weights go by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LATENTS = 3  # latents that a step may read: its own and two before (UniPC of order 2 needs them)
GUIDED = 4  # guided predictions that a step may read: its own and three before (PNDM needs them)

LATENT_NAMES = ("latent", *(f"latent_{age}" for age in range(1, LATENTS)))
GUIDED_NAMES = ("guided", *(f"guided_{age}" for age in range(1, GUIDED)))
WEIGHT_NAMES = ("guidance", *LATENT_NAMES, *GUIDED_NAMES, "noise", "next_input_scale")


@dataclass(frozen=True)
class LinearStep:
    """One step: `next = latents . (x, x before, ..) + guided . (g, g before, ..) + noise * n`,
    where x is the latent, g the guided prediction and n fresh noise.

    Attributes:
        timestep: what the UNet is told.
        input_scale: the UNet reads the latent times this.
        latents: `LATENTS` weights, this step's latent first.
        guided: `GUIDED` weights, this step's prediction first.
        noise: weight of the noise.
        draws: whether the scheduler draws noise in this step, be its weight 0 or not.
    """

    timestep: float
    input_scale: float
    latents: tuple[float, ...]
    guided: tuple[float, ...]
    noise: float
    draws: bool

    def weights(self, guidance: float, next_input_scale: float) -> tuple[float, ...]:
        """In the order of `WEIGHT_NAMES`."""
        return (guidance, *self.latents, *self.guided, self.noise, next_input_scale)

    def apply(self, latents: Sequence[Any], guided: Sequence[Any], noise: Any | None = None) -> Any:
        """The next latent from the last latents and guided predictions (arrays or tensors), the
        newest first."""
        terms = [*zip(self.latents, latents, strict=True), *zip(self.guided, guided, strict=True)]
        total = sum(weight * tensor for weight, tensor in terms)
        return total if noise is None else total + self.noise * noise
