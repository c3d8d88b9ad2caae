"""The embedding of the timestep."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.linear_to_conv import linear_to_conv
from coreml_sd.mobile.shapes import sizes

_LONGEST_PERIOD = 10_000


class TimestepSinusoid(nn.Module):
    """`Timesteps`: timesteps `(B,)` to sines and cosines `(B, C, 1, 1)`.

    The product of a timestep near 1,000 and a frequency has steps of 0.5 rad in fp16, so an
    exporter keeps this module in fp32.

    Raises:
        UserError: another embedding of time, or an odd number of channels.
    """

    frequencies: torch.Tensor

    def __init__(self, source: Any) -> None:
        super().__init__()
        if type(source) is not Timesteps or source.num_channels % 2:
            raise UserError(f"time embedding {type(source).__name__} has no mobile form")
        half = source.num_channels // 2
        exponent = -math.log(_LONGEST_PERIOD) * torch.arange(half, dtype=torch.float32)
        exponent = exponent / (half - source.downscale_freq_shift)
        frequencies = torch.exp(exponent)[None, :, None, None]
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.scale = source.scale
        self.cosine_first = bool(source.flip_sin_to_cos)

    def forward(self, timestep: torch.Tensor) -> torch.Tensor:
        angle = timestep.reshape(sizes(timestep)[0], 1, 1, 1) * self.frequencies
        if self.scale != 1:
            angle = self.scale * angle
        waves = (torch.sin(angle), torch.cos(angle))
        return torch.cat(waves[::-1] if self.cosine_first else waves, dim=1)


class TimeEmbedding(nn.Module):
    """Timesteps `(B,)` to the embedding `(B, C, 1, 1)` that the residual blocks take.

    Includes the SiLU that every residual block would apply first.

    Raises:
        UserError: an activation other than SiLU, or an extra condition.
    """

    def __init__(self, sinusoid: Any, source: Any) -> None:
        super().__init__()
        if type(source) is not TimestepEmbedding or source.cond_proj is not None:
            raise UserError("time embedding with time_cond_proj_dim has no mobile form")
        if not isinstance(source.act, nn.SiLU) or source.post_act is not None:
            raise UserError("time embedding with an activation but SiLU has no mobile form")
        self.sinusoid = TimestepSinusoid(sinusoid)
        self.linear_1 = linear_to_conv(source.linear_1)
        self.linear_2 = linear_to_conv(source.linear_2)

    def forward(self, timestep: torch.Tensor) -> torch.Tensor:
        hidden = self.linear_1(self.sinusoid(timestep))
        return F.silu(self.linear_2(F.silu(hidden)))
