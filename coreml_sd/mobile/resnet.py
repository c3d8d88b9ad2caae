"""The residual convolution block."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.group_norm import NormSiLU
from coreml_sd.mobile.layer_weights import shared_conv
from coreml_sd.mobile.linear_to_conv import linear_to_conv
from coreml_sd.mobile.options import MobileOptions
from coreml_sd.mobile.separable_conv import shared_convolution


class MobileResnet(nn.Module):
    """`ResnetBlock2D` on `(B, C, H, W)`.

    `time` is `(B, C_time, 1, 1)`, the time embedding after its SiLU (computed once for all
    blocks); a block of a VAE takes none.

    Raises:
        UserError: another activation, scale-shift time embedding, or a block that resamples.
    """

    def __init__(self, source: Any, options: MobileOptions) -> None:
        super().__init__()
        _check_plain(source)
        self.norm1 = NormSiLU(source.norm1, options)
        self.conv1 = shared_convolution(source.conv1)
        time_projection = source.time_emb_proj
        self.time_emb_proj = None if time_projection is None else linear_to_conv(time_projection)
        self.norm2 = NormSiLU(source.norm2, options)
        self.conv2 = shared_convolution(source.conv2)
        shortcut = source.conv_shortcut
        self.conv_shortcut = None if shortcut is None else shared_conv(shortcut)
        self.output_scale = float(source.output_scale_factor)

    def forward(self, x: torch.Tensor, time: torch.Tensor | None = None) -> torch.Tensor:
        hidden = self.conv1(self.norm1(x))
        if self.time_emb_proj is not None:
            hidden = hidden + self.time_emb_proj(time)
        hidden = self.conv2(self.norm2(hidden))
        shortcut = x if self.conv_shortcut is None else self.conv_shortcut(x)
        out = shortcut + hidden
        return out if self.output_scale == 1.0 else out / self.output_scale  # type: ignore[no-any-return]


class SkipResnet(MobileResnet):
    """A resnet of the way up: first joins the skip tensor of the way down on the channel axis."""

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, skip: torch.Tensor, time: torch.Tensor
    ) -> torch.Tensor:
        return super().forward(torch.cat([x, skip], dim=1), time)


def _check_plain(source: Any) -> None:
    if type(source) is not ResnetBlock2D:
        raise UserError(f"residual block {type(source).__name__} has no mobile form")
    if not isinstance(source.nonlinearity, nn.SiLU):
        name = type(source.nonlinearity).__name__
        raise UserError(f"residual block with activation {name} has no mobile form: only SiLU")
    # A VAE's blocks say "group" where they take no time embedding, which is the plain form.
    plain = ("default",) if source.time_emb_proj is not None else ("default", "group")
    if source.time_embedding_norm not in plain:
        raise UserError(
            f"resnet_time_scale_shift={source.time_embedding_norm!r} has no mobile form"
        )
    if source.up or source.down:
        raise UserError("residual block that changes the size has no mobile form")
    if source.time_emb_proj is not None and source.skip_time_act:
        raise UserError("resnet_skip_time_act has no mobile form")
