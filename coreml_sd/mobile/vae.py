"""The decoder and the encoder of an AutoencoderKL, or of MobileDiffusion's VAE, as steps."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.unets.unet_2d_blocks import (
    DownEncoderBlock2D,
    UNetMidBlock2D,
    UpDecoderBlock2D,
)
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.attention import MobileAttention
from coreml_sd.mobile.group_norm import SafeGroupNorm
from coreml_sd.mobile.layer_weights import shared_conv
from coreml_sd.mobile.options import MobileOptions
from coreml_sd.mobile.output import OutputNorm
from coreml_sd.mobile.resnet import MobileResnet
from coreml_sd.mobile.samplers import MobileDownsample, MobileUpsample
from coreml_sd.mobile.shapes import sizes
from coreml_sd.mobile.steps import Step, StepSequence
from coreml_sd.models.mobile_diffusion.vae import MobileDiffusionVAE


class MobileVAEAttention(MobileAttention):
    """`Attention` with its own group norm and residual, on `(B, C, H, W)`.

    Raises:
        UserError: no group norm or residual, or attention that has no mobile form.
    """

    def __init__(self, source: Any, options: MobileOptions) -> None:
        super().__init__(source, options)
        if source.group_norm is None or not source.residual_connection:
            raise UserError("vae attention without group norm and residual has no mobile form")
        self.group_norm = SafeGroupNorm(source.group_norm, options)
        self.output_scale = float(source.rescale_output_factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        batch, channels, height, width = sizes(x)
        hidden = self.group_norm(x)
        if self.options.layout == "channels-last":
            out = x + super().forward(hidden)
        else:
            hidden = super().forward(hidden.reshape(batch, channels, 1, height * width))
            out = x + hidden.reshape(batch, channels, height, width)
        return out if self.output_scale == 1.0 else out / self.output_scale


def vae_decoder_steps(source: nn.Module, options: MobileOptions) -> StepSequence:
    """The mobile form of the decoding half: z `(B, 4, h, w)` to image `(B, 3, H, W)` in -1..1.

    Raises:
        UserError: a block that has no mobile form.
    """
    vae = _checked(source)
    decoder = vae.decoder
    chain = _Chain("z")
    if vae.post_quant_conv is not None:
        chain.add("post_quant_conv", shared_conv(vae.post_quant_conv))
    chain.add("decoder.conv_in", shared_conv(decoder.conv_in))
    _add_middle(chain, "decoder.mid_block", decoder.mid_block, options)
    for i, block in enumerate(decoder.up_blocks):
        _add_resnets(chain, f"decoder.up_blocks.{i}", block, UpDecoderBlock2D, options)
        for j, sampler in enumerate(block.upsamplers or ()):
            chain.add(f"decoder.up_blocks.{i}.upsamplers.{j}", MobileUpsample(sampler))
    chain.add("decoder.conv_norm_out", OutputNorm(decoder.conv_norm_out, decoder.conv_act, options))
    chain.add("decoder.conv_out", shared_conv(decoder.conv_out))
    return chain.sequence("image")


def vae_encoder_steps(source: nn.Module, options: MobileOptions) -> StepSequence:
    """The mobile form of the encoding half: x `(B, 3, H, W)` to latent `(B, 8, h, w)`.

    The latent holds the mean and, after it, the log variance.

    Raises:
        UserError: a block that has no mobile form.
    """
    vae = _checked(source)
    encoder = vae.encoder
    chain = _Chain("x")
    chain.add("encoder.conv_in", shared_conv(encoder.conv_in))
    for i, block in enumerate(encoder.down_blocks):
        _add_resnets(chain, f"encoder.down_blocks.{i}", block, DownEncoderBlock2D, options)
        for j, sampler in enumerate(block.downsamplers or ()):
            chain.add(f"encoder.down_blocks.{i}.downsamplers.{j}", MobileDownsample(sampler))
    _add_middle(chain, "encoder.mid_block", encoder.mid_block, options)
    chain.add("encoder.conv_norm_out", OutputNorm(encoder.conv_norm_out, encoder.conv_act, options))
    chain.add("encoder.conv_out", shared_conv(encoder.conv_out))
    if vae.quant_conv is not None:
        chain.add("quant_conv", shared_conv(vae.quant_conv))
    return chain.sequence("latent")


class _Chain:
    """Steps of which each reads only what the one before wrote."""

    def __init__(self, first: str) -> None:
        self.first = first
        self.links: list[tuple[str, nn.Module]] = []

    def add(self, path: str, module: nn.Module) -> None:
        self.links.append((path, module))

    def sequence(self, last: str) -> StepSequence:
        names = [self.first, *(path.replace(".", "_") for path, _ in self.links[:-1]), last]
        steps = [
            Step(path, module, (names[i],), (names[i + 1],))
            for i, (path, module) in enumerate(self.links)
        ]
        return StepSequence(steps, (self.first,), (last,))


def _add_middle(chain: _Chain, path: str, block: Any, options: MobileOptions) -> None:
    if type(block) is not UNetMidBlock2D:
        raise UserError(f"vae block {type(block).__name__} has no mobile form")
    for j, resnet in enumerate(block.resnets):
        if j > 0 and block.attentions[j - 1] is not None:
            attention = MobileVAEAttention(block.attentions[j - 1], options)
            chain.add(f"{path}.attentions.{j - 1}", attention)
        chain.add(f"{path}.resnets.{j}", MobileResnet(resnet, options))


def _add_resnets(chain: _Chain, path: str, block: Any, wanted: Any, options: MobileOptions) -> None:
    if type(block) is not wanted:
        raise UserError(f"vae block {type(block).__name__} has no mobile form")
    for j, resnet in enumerate(block.resnets):
        chain.add(f"{path}.resnets.{j}", MobileResnet(resnet, options))


def _checked(source: nn.Module) -> Any:
    if not isinstance(source, AutoencoderKL | MobileDiffusionVAE):
        raise UserError(f"vae of type {type(source).__name__} has no mobile form")
    return source
