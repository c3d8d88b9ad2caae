"""The transformer of a UNet level, channels-first from norm to projection."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.attention import MobileAttention
from coreml_sd.mobile.feed_forward import MobileFeedForward
from coreml_sd.mobile.group_norm import SafeGroupNorm
from coreml_sd.mobile.layer_norm import ChannelLayerNorm
from coreml_sd.mobile.linear_to_conv import linear_to_conv
from coreml_sd.mobile.options import MobileOptions
from coreml_sd.mobile.shapes import sizes


class MobileTransformerBlock(nn.Module):
    """`BasicTransformerBlock` on `(B, C, 1, S)` or `(B, C, H, W)`, context `(B, C_text, 1, T)`.

    Raises:
        UserError: anything but self-attention, cross-attention and GEGLU with plain layer norms.
    """

    def __init__(self, source: Any, options: MobileOptions) -> None:
        super().__init__()
        _check_block(source)
        self.norm1 = ChannelLayerNorm(source.norm1)
        self.attn1 = MobileAttention(source.attn1, options)
        self.norm2 = ChannelLayerNorm(source.norm2)
        self.attn2 = MobileAttention(source.attn2, options)
        self.norm3 = ChannelLayerNorm(source.norm3)
        self.ff = MobileFeedForward(source.ff, options)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))  # type: ignore[no-any-return]


class MobileTransformer(nn.Module):
    """`Transformer2DModel` on `(B, C, H, W)` with context `(B, C_text, 1, T)`.

    Linear and convolutional projections are the same 1x1 convolution here.

    Raises:
        UserError: vector or patch inputs, or a block that has no mobile form.
    """

    source_class: type[Any] = Transformer2DModel
    block_class: type[nn.Module] = MobileTransformerBlock

    def __init__(self, source: Any, options: MobileOptions) -> None:
        super().__init__()
        if type(source) is not self.source_class:
            raise UserError(f"transformer of type {type(source).__name__} has no mobile form")
        self._check(source)
        self.keep_map = options.layout == "channels-last"
        self.norm = SafeGroupNorm(source.norm, options)
        self.proj_in = linear_to_conv(source.proj_in)
        self.transformer_blocks = nn.ModuleList(
            [self.block_class(block, options) for block in source.transformer_blocks]
        )
        self.proj_out = linear_to_conv(source.proj_out)

    def _check(self, source: Any) -> None:
        """What the source may not have beside its blocks."""
        if not source.is_input_continuous:
            raise UserError("transformer with vector or patch inputs has no mobile form")

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = sizes(x)
        hidden = self.norm(x)
        if not self.keep_map:
            hidden = hidden.reshape(batch, channels, 1, height * width)
        hidden = self.proj_in(hidden)
        for block in self.transformer_blocks:
            hidden = block(hidden, context)
        hidden = self.proj_out(hidden)
        if not self.keep_map:
            hidden = hidden.reshape(batch, channels, height, width)
        return x + hidden  # type: ignore[no-any-return]


def _check_block(source: Any) -> None:
    if type(source) is not BasicTransformerBlock:
        raise UserError(f"transformer block {type(source).__name__} has no mobile form")
    if source.norm_type != "layer_norm":
        raise UserError(f"transformer block with {source.norm_type} has no mobile form")
    if source.only_cross_attention or source.double_self_attention or source.attn2 is None:
        raise UserError(
            "transformer block without one self- and one cross-attention has no mobile form"
        )
    if source.pos_embed is not None or hasattr(source, "fuser"):
        raise UserError("transformer block with extra embeddings (GLIGEN) has no mobile form")
