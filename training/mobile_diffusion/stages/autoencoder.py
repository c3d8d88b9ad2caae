"""Stage `vae`: encoder and whole decoder. Stage `decoder`: the light one, encoder frozen (T3.10).

The paper's (arXiv 2311.16567): 8 latent channels at an eighth of the size; squared error,
perceptual, divergence and adversarial terms (recalled, not read); the decoder is pruned after the
first training and trained again alone. Ours: weights of the terms, and gradients at several scales
in the place of the perceptual network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from coreml_sd.models.mobile_diffusion.vae import MobileDiffusionVAE
from training.mobile_diffusion.chance import Chance
from training.mobile_diffusion.config import AutoencoderConfig
from training.mobile_diffusion.data.picture_set import PictureSet, to_tensor
from training.mobile_diffusion.loop import Loop, Losses, Turn
from training.mobile_diffusion.losses import (
    discriminator_loss,
    divergence,
    gradient_loss,
    pixel_loss,
)


class Autoencoder(nn.Module):
    """Pictures `(B, 3, H, W)` to latents and back: the VAE as one forward pass."""

    def __init__(self, vae: MobileDiffusionVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(
        self, pictures: torch.Tensor, noise: torch.Tensor, latent_noise: torch.Tensor
    ) -> tuple[torch.Tensor, Any]:
        """The decoded pictures and the posterior; both noises are `(B, C, H / 8, W / 8)`."""
        posterior = self.vae.encode(pictures).latent_dist
        latent = posterior.mean + posterior.std * noise
        # Of each picture alone, so that processes which share a batch do what one does.
        spread = latent.detach().std(dim=(1, 2, 3), keepdim=True)
        latent = latent + spread * latent_noise
        return self.vae.decode(latent).sample, posterior


class AutoencoderStage:
    """The turns of the autoencoder and of its discriminator."""

    def __init__(self, loop: Loop, config: AutoencoderConfig, pictures: PictureSet) -> None:
        self.loop, self.config, self.set = loop, config, pictures
        vae: Any = loop.still("autoencoder").vae
        self.channels: int = vae.config["latent_channels"]

    def turns(self) -> list[Turn]:
        """The discriminator learns from `adversarial_from` on, and counts a little later."""
        turns = [Turn("autoencoder", self.autoencoder_losses)]
        if self.config.adversarial:
            begin = self.config.adversarial_from
            turns.append(Turn("discriminator", self.discriminator_losses, first_step=begin))
        return turns

    def autoencoder_losses(self, chance: Chance) -> Losses:
        wanted = self._pictures(chance)
        decoded, posterior = self._decode(self.loop.networks["autoencoder"], wanted, chance)
        losses = {
            "pixels": pixel_loss(decoded, wanted),
            "gradients": gradient_loss(decoded, wanted),
            "divergence": self.config.kl * divergence(posterior),
        }
        if self.config.adversarial and self.loop.step > self.config.adversarial_from:
            scores = self.loop.still("discriminator")(decoded)
            losses["adversarial"] = -self.config.adversarial * scores.mean()
        return losses

    def discriminator_losses(self, chance: Chance) -> Losses:
        wanted = self._pictures(chance)
        with torch.no_grad():
            decoded, _ = self._decode(self.loop.still("autoencoder"), wanted, chance)
        scores = self.loop.networks["discriminator"](torch.cat([wanted, decoded]))
        return {"discriminator": discriminator_loss(*scores.chunk(2))}

    def _decode(
        self, network: nn.Module, wanted: torch.Tensor, chance: Chance
    ) -> tuple[torch.Tensor, Any]:
        channels, height, width = self.channels, wanted.shape[2] // 8, wanted.shape[3] // 8
        noise = chance.normal(channels, height, width)
        latent_noise = self.config.latent_noise * chance.normal(channels, height, width)
        decoded, posterior = network(wanted, noise, latent_noise)
        return decoded, posterior

    def _pictures(self, chance: Chance) -> torch.Tensor:
        """Of this turn, cut to the crop: `(B, 3, h, w)`."""
        pictures = self.set.pictures(chance.chosen(len(self.set)))
        if self.config.crop:
            pictures = _crops(pictures, self.config.crop, chance.seeds())
        return to_tensor(pictures).to(self.loop.accelerator.device)


def _crops(pictures: NDArray[np.uint8], size: int, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A square of each, `[n, size, size, 3]`."""
    room = pictures.shape[1] - size + 1
    places = zip(seeds % room, seeds // room % room, strict=True)
    return np.stack(
        [
            picture[top : top + size, left : left + size]
            for picture, (top, left) in zip(pictures, places, strict=True)
        ]
    )
