"""The discriminator of the one-step stage: half of a UNet, and a head that says 0 at the start."""

from __future__ import annotations

import copy

import torch
from torch import nn

from coreml_sd.models.mobile_diffusion.unet import MobileDiffusionUNet


class LatentDiscriminator(nn.Module):
    """Latents `(B, C, h, w)`, timesteps and text `(B, T, D)` to a logit for each patch.

    `(B, 1, h / 4, w / 4)`. The paper's (UFOGen, 2311.09257): it starts as the pretrained UNet, with
    a last layer of zeros. Ours: it ends after the middle of the UNet.

    Args:
        unet: copied; what it has on the way up is left out.
    """

    def __init__(self, unet: MobileDiffusionUNet) -> None:
        super().__init__()
        width: int = unet.config["block_out_channels"][-1]
        self.unet: MobileDiffusionUNet = copy.deepcopy(unet)
        for name in _LEFT_OUT:
            setattr(self.unet, name, None)
        self.unet.time_embedding.cond_proj = None  # of a scale of guidance, which it is not told
        last = nn.Conv2d(width, 1, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.head = nn.Sequential(
            nn.GroupNorm(unet.config["norm_num_groups"], width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            last,
        )

    def forward(self, x: torch.Tensor, s: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """`s` may be -1, without noise: the network takes it for its first timestep."""
        time = self.unet.embedded_time(x, s.clamp(min=0))
        features, _ = self.unet.inner_features(x, time, context)
        logits: torch.Tensor = self.head(features)
        return logits


_LEFT_OUT = ("up_blocks", "conv_norm_out", "conv_act", "conv_out")
