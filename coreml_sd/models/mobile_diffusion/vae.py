"""The VAE of MobileDiffusion: 8 latent channels, and a light decoder."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import (
    Decoder,
    DecoderOutput,
    DiagonalGaussianDistribution,
    Encoder,
)
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import nn


class MobileDiffusionVAE(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Pictures `(B, 3, H, W)` in -1..1 to latents `(B, C, H / 8, W / 8)` and back.

    Source: arXiv 2311.16567 (T3.10). The paper's: 8 latent channels, and a decoder that is pruned
    in width and depth down to 9.8 M parameters, after it was trained whole (39.3 M, recalled) with
    the encoder. Ours: how it is pruned. Half of Stable Diffusion's widths and one residual block
    less at each level give 9.67 M; the same depth at full width 38.6 M. The encoder is Stable
    Diffusion's.

    Args:
        latent_channels: 8, or 4 as Stable Diffusion.
        light_decoder: half the widths in the decoder.
        decoder_layers_per_block: residual blocks less one at each level of the decoder: 1, or 2 as
            Stable Diffusion.
        scaling_factor: what latents are multiplied with before denoising; measured once the VAE is
            trained (the default is Stable Diffusion's, not measured).
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 8,
        block_out_channels: tuple[int, ...] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        light_decoder: bool = True,
        decoder_layers_per_block: int = 1,
        norm_num_groups: int = 32,
        sample_size: int = 512,
        scaling_factor: float = 0.18215,
    ) -> None:
        super().__init__()
        levels = len(block_out_channels)
        widths = tuple(w // 2 if light_decoder else w for w in block_out_channels)
        self.encoder = Encoder(
            in_channels,
            latent_channels,
            ("DownEncoderBlock2D",) * levels,
            block_out_channels,
            layers_per_block,
            norm_num_groups,
        )
        self.decoder = Decoder(
            latent_channels,
            out_channels,
            ("UpDecoderBlock2D",) * levels,
            widths,
            decoder_layers_per_block,
            norm_num_groups,
        )
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> Any:
        """The distribution of the latents of pictures, before scaling."""
        posterior = DiagonalGaussianDistribution(self.quant_conv(self.encoder(x)))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: torch.Tensor, return_dict: bool = True, generator: Any = None) -> Any:
        """The pictures of latents, after scaling was undone; `generator` is not used."""
        picture = self.decoder(self.post_quant_conv(z))
        return DecoderOutput(sample=picture) if return_dict else (picture,)
