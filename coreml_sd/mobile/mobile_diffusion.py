"""The UNet of MobileDiffusion as a flat list of steps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.attention import attend
from coreml_sd.mobile.feed_forward import Gate, MobileFeedForward
from coreml_sd.mobile.gelu import GELUS
from coreml_sd.mobile.layer_norm import ChannelLayerNorm
from coreml_sd.mobile.linear_to_conv import linear_to_conv
from coreml_sd.mobile.options import MobileOptions
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.mobile.transformer import MobileTransformer
from coreml_sd.mobile.unet import UNetSteps
from coreml_sd.models.mobile_diffusion.transformer import Attention, MiddleTransformer
from coreml_sd.models.mobile_diffusion.unet import MobileDiffusionUNet


def mobile_diffusion_unet_steps(source: nn.Module, options: MobileOptions) -> StepSequence:
    """The mobile form of a `MobileDiffusionUNet`; inputs and output are those of `unet_steps`.

    Raises:
        UserError: another network, or conditions of distilled models.
    """
    if not isinstance(source, MobileDiffusionUNet):
        raise UserError(f"unet of type {type(source).__name__} has no mobile form")
    if source.target_embedding is not None:
        raise UserError("unet option step_embedding=True has no mobile form")
    return _Steps(source, options).sequence()


class _Steps(UNetSteps):
    def _attentions(self, block: Any) -> list[Any]:
        return list(getattr(block, "attentions", ()))

    def _mobile_transformer(self, source: Any) -> nn.Module:
        return MobileMiddleTransformer(source, self.options)


class SharedAttention(nn.Module):
    """`Attention` on `(B, C, 1, S)` or `(B, C, H, W)`: keys and values may be one projection."""

    def __init__(self, source: Attention, options: MobileOptions) -> None:
        super().__init__()
        self.heads, self.weighing, self.options = source.heads, source.weighing, options
        self.to_q = linear_to_conv(source.to_q)
        self.shared = source.shares_key_value
        if self.shared:
            self.to_kv = linear_to_conv(source.to_kv)
        else:
            self.to_k, self.to_v = linear_to_conv(source.to_k), linear_to_conv(source.to_v)
        self.to_out = nn.ModuleList([linear_to_conv(source.to_out[0])])

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        context = x if context is None else context
        if self.shared:
            key = value = self.to_kv(context)
        else:
            key, value = self.to_k(context), self.to_v(context)
        mixed = attend(self.to_q(x), key, value, self.heads, self.options, weighing=self.weighing)
        return self.to_out[0](mixed)  # type: ignore[no-any-return]


class _FeedForward(MobileFeedForward):
    """`GatedFeedForward` on `(B, C, 1, S)` or `(B, C, H, W)`."""

    def _gate(self, source: Any, options: MobileOptions) -> Gate:
        return F.silu if source.net[0].gate == "silu" else GELUS[options.gelu]


class MobileTransformerLayer(nn.Module):
    """`TransformerLayer` on `(B, C, 1, S)` or `(B, C, H, W)`, context `(B, C_text, 1, T)`."""

    def __init__(self, source: Any, options: MobileOptions) -> None:
        super().__init__()
        self.norm1 = self.attn1 = None
        if source.attn1 is not None:
            self.norm1 = ChannelLayerNorm(source.norm1)
            self.attn1 = SharedAttention(source.attn1, options)
        self.norm2 = ChannelLayerNorm(source.norm2)
        self.attn2 = SharedAttention(source.attn2, options)
        self.norm3 = ChannelLayerNorm(source.norm3)
        self.ff = _FeedForward(source.ff, options)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        if self.norm1 is not None and self.attn1 is not None:
            x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))  # type: ignore[no-any-return]


class MobileMiddleTransformer(MobileTransformer):
    """`MiddleTransformer` on `(B, C, H, W)` with context `(B, C_text, 1, T)`."""

    source_class = MiddleTransformer
    block_class = MobileTransformerLayer

    def _check(self, source: Any) -> None:
        """It has blocks alone."""
