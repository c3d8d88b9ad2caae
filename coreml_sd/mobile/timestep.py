"""The embeddings of the timestep and of what Stable Diffusion XL adds to it."""

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
_TIME_IDS = 6  # original size, corner of the crop, target size


class TimestepSinusoid(nn.Module):
    """`Timesteps`: timesteps `(B,)` to sines and cosines `(B, C, 1, 1)`.

    With a `count` N of numbers for each sample, `(B, N)` to `(B, N * C, 1, 1)`: those of the first
    number, then those of the second, and so on.

    The product of a timestep near 1,000 and a frequency has steps of 0.5 rad in fp16, so an
    exporter keeps this module in fp32.

    Raises:
        UserError: another embedding of time, or an odd number of channels.
    """

    frequencies: torch.Tensor

    def __init__(self, source: Any, count: int = 1) -> None:
        super().__init__()
        if type(source) is not Timesteps:
            raise UserError(f"time embedding of type {type(source).__name__} has no mobile form")
        if source.num_channels % 2:
            raise UserError("time embedding of an odd number of channels has no mobile form")
        half = source.num_channels // 2
        exponent = -math.log(_LONGEST_PERIOD) * torch.arange(half, dtype=torch.float32)
        exponent = exponent / (half - source.downscale_freq_shift)
        self.count, self.axis = count, 1 if count == 1 else 2
        shape = [1, 1, 1, 1]
        shape[self.axis] = half
        frequencies = torch.exp(exponent).reshape(shape)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.scale = source.scale
        self.cosine_first = bool(source.flip_sin_to_cos)

    def forward(self, timestep: torch.Tensor) -> torch.Tensor:
        batch = sizes(timestep)[0]
        angle = timestep.reshape(batch, self.count, 1, 1) * self.frequencies
        if self.scale != 1:
            angle = self.scale * angle
        waves = (torch.sin(angle), torch.cos(angle))
        joined = torch.cat(waves[::-1] if self.cosine_first else waves, dim=self.axis)
        return joined if self.count == 1 else joined.reshape(batch, -1, 1, 1)


class Embedding(nn.Module):
    """`TimestepEmbedding`, two layers with SiLU between them, on `(B, C, 1, 1)`.

    Raises:
        UserError: an activation other than SiLU.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        if type(source) is not TimestepEmbedding:
            raise UserError(f"time embedding of type {type(source).__name__} has no mobile form")
        if not isinstance(source.act, nn.SiLU) or source.post_act is not None:
            raise UserError("time embedding with an activation but SiLU has no mobile form")
        self.linear_1 = linear_to_conv(source.linear_1)
        self.linear_2 = linear_to_conv(source.linear_2)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Both layers."""
        return self.linear_2(F.silu(self.linear_1(x)))  # type: ignore[no-any-return]


class TimeEmbedding(Embedding):
    """Timesteps `(B,)` to their embedding `(B, C, 1, 1)`.

    Of a network that is told the guidance, it takes that too: `(B, W)`, projected and added to the
    sines. Where it is `last`, it is what the residual blocks take: with the SiLU that each of them
    would apply first.

    Raises:
        UserError: as `Embedding`.
    """

    def __init__(self, sinusoid: Any, source: Any, last: bool = True) -> None:
        super().__init__(source)
        self.sinusoid = TimestepSinusoid(sinusoid)
        self.last = last
        if source.cond_proj is not None:
            self.cond_proj = linear_to_conv(source.cond_proj)

    def forward(self, timestep: torch.Tensor, *guidance: torch.Tensor) -> torch.Tensor:
        waves = self.sinusoid(timestep)
        for told in guidance:
            waves = waves + self.cond_proj(told.reshape(*sizes(told), 1, 1))
        hidden = self.embed(waves)
        return F.silu(hidden) if self.last else hidden


class AddedEmbedding(Embedding):
    """Stable Diffusion XL's further conditions, added to the embedding of the time.

    time `(B, C, 1, 1)`, time_ids `(B, 6)` (sizes and crop in pixels) and text_embeds `(B, P)` (the
    pooled prompt) to what the residual blocks take, `(B, C, 1, 1)`, with their first SiLU.

    Raises:
        UserError: as `Embedding`.
    """

    def __init__(self, sinusoid: Any, source: Any) -> None:
        super().__init__(source)
        if source.cond_proj is not None:
            raise UserError("added embedding with a further condition has no mobile form")
        self.sinusoid = TimestepSinusoid(sinusoid, _TIME_IDS)

    def forward(
        self, time: torch.Tensor, time_ids: torch.Tensor, text_embeds: torch.Tensor
    ) -> torch.Tensor:
        pooled = text_embeds.reshape(*sizes(text_embeds), 1, 1)
        added = self.embed(torch.cat([pooled, self.sinusoid(time_ids)], dim=1))
        return F.silu(time + added)
