"""Losses of the autoencoder: pixels, gradients at several scales, patches."""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import nn
from torch.nn import functional as F

_SCALES = 3


def pixel_loss(decoded: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Absolute and squared error of the pixels `(B, 3, H, W)`."""
    return F.l1_loss(decoded, wanted) + 2 * F.mse_loss(decoded, wanted)


def gradient_loss(decoded: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Absolute error of neighbouring pixels' differences, at full, half and quarter size.

    The paper's perceptual term needs a network trained on photographs; this one has no weights.
    """
    total = decoded.new_zeros(())
    for scale in range(_SCALES):
        if scale:
            decoded, wanted = F.avg_pool2d(decoded, 2), F.avg_pool2d(wanted, 2)
        for dim in (2, 3):
            total = total + F.l1_loss(decoded.diff(dim=dim), wanted.diff(dim=dim))
    return total


def divergence(posterior: DiagonalGaussianDistribution) -> torch.Tensor:
    """Of the latents from the standard normal distribution, the mean over the batch."""
    kl: torch.Tensor = posterior.kl().mean()
    return kl


class PatchDiscriminator(nn.Module):
    """A score for each patch of a picture `(B, 3, H, W)`: `(B, 1, H / 8, W / 8)`.

    After the patch discriminator of pix2pix (arXiv 1611.07004), with group norms.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for _ in range(2):
            layers += [
                nn.Conv2d(width, 2 * width, 4, 2, 1),
                nn.GroupNorm(8, 2 * width),
                nn.LeakyReLU(0.2),
            ]
            width *= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 3, 1, 1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(pictures)
        return scores


def discriminator_loss(real: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Hinge loss of scores: real ones above 1, drawn ones below -1."""
    return (F.relu(1 - real).mean() + F.relu(1 + drawn).mean()) / 2
