"""Attention on channels-first sequences, in five arithmetics with equal results."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention as DiffusersAttention
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.batched_attention import Weighing, batched_attention, weighed
from coreml_sd.mobile.linear_to_conv import linear_to_conv
from coreml_sd.mobile.options import MobileOptions
from coreml_sd.mobile.shapes import sizes

_NEIGHBOURS = 256  # fp16 numbers on either side of a root that are tried as a factor
_MASKED = -1e4
# Parts of diffusers' attention that change what it computes.
_UNKNOWN_PARTS = (
    "spatial_norm",
    "norm_q",
    "norm_k",
    "norm_cross",
    "added_kv_proj_dim",
    "only_cross_attention",
    "pre_only",
    "is_causal",
    "fused_projections",
)


def causal_mask(length: int) -> torch.Tensor:
    """What is added to the scores `(1, 1, query, key)` so that no token sees a later one.

    -10,000 is enough: its exponential is zero in fp16 and in fp32, and -inf breaks some phones.
    """
    return torch.full((length, length), _MASKED).triu(1)[None, None]


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    options: MobileOptions,
    mask: torch.Tensor | None = None,
    weighing: Weighing = "softmax",
) -> torch.Tensor:
    """Scaled dot-product attention of `(B, C, 1, Q)` over `(B, C, 1, K)`, giving `(B, C, 1, Q)`.

    The form `batched` also takes maps `(B, C, H, W)`. `mask` is `(1, 1, Q, K)`, added to the
    scores. Weighed by ReLU, the scores above zero are divided by the number of keys instead of by
    their sum; sdpa has no such form and is computed as original. The scale 1/sqrt(C / heads)
    multiplies the keys: the scores are then small before they are stored in fp16, and because a
    reshape or a transpose lies between the projection and the scale, the converter does not fold
    the scale into the projection's weights.
    """
    if options.attention == "batched":
        return batched_attention(query, key, value, heads, mask, options.score_limit, weighing)
    if weighing == "relu":
        # The values, which are few: a mean of large scores could leave fp16 before it is divided.
        value = _times(value, 1 / sizes(value)[3])
    if options.attention == "original" or (options.attention == "sdpa" and weighing == "relu"):
        return _batched_matmul(query, key, value, heads, mask, weighing)
    if options.attention == "sdpa":
        return _fused(query, key, value, heads, mask)
    chunk = options.query_chunk if options.attention == "split-einsum-v2" else None
    return _split_einsum(query, key, value, heads, mask, chunk, weighing)


def _split_einsum(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None,
    query_chunk: int | None,
    weighing: Weighing,
) -> torch.Tensor:
    """One pair of einsums per head, and per piece of the query axis where `query_chunk` is set.

    Source: Apple, "Deploying Transformers on the Apple Neural Engine" (2022).
    """
    _, channels, _, length = sizes(query)
    width = channels // heads
    keys = _split(_scaled(key.transpose(1, 3), width), width, 3)
    values = _split(value, width, 1)
    bias = None if mask is None else mask.permute(0, 3, 1, 2)  # (1, K, 1, Q), as the scores
    pieces = []
    end = 0
    for piece in _split(query, query_chunk or length, 3):
        begin, end = end, end + sizes(piece)[3]
        mixed = []
        for q, k, v in zip(_split(piece, width, 1), keys, values, strict=True):
            scores = torch.einsum("bchq,bkhc->bkhq", q, k)
            if bias is not None:
                scores = scores + bias[:, :, :, begin:end]
            mixed.append(torch.einsum("bkhq,bchk->bchq", weighed(scores, weighing, 1), v))
        pieces.append(torch.cat(mixed, dim=1) if heads > 1 else mixed[0])
    return torch.cat(pieces, dim=3) if len(pieces) > 1 else pieces[0]


def _batched_matmul(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None,
    weighing: Weighing,
) -> torch.Tensor:
    """All heads in one matmul on `(B, heads, C / heads, S)`, without a transpose in memory."""
    q, k, v = (_heads(x, heads) for x in (query, key, value))
    scores = q.transpose(2, 3) @ _scaled(k, sizes(k)[2])
    if mask is not None:
        scores = scores + mask
    mixed = v @ weighed(scores, weighing, 3).transpose(2, 3)
    return mixed.reshape(sizes(query))


def _fused(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """The `scaled_dot_product_attention` op of iOS 18; it is used only when no scale is given."""
    q, k, v = (_heads(x, heads).transpose(2, 3) for x in (query, key, value))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return mixed.transpose(2, 3).reshape(sizes(query))


def _scaled(key: torch.Tensor, width: int) -> torch.Tensor:
    """The keys times 1/sqrt(width), for heads of that width."""
    return _times(key, width**-0.5)


def _times(x: torch.Tensor, scale: float) -> torch.Tensor:
    for factor in fp16_factors(scale):
        x = x * factor
    return x


@functools.cache
def fp16_factors(scale: float) -> tuple[float, ...]:
    """A number as a product of fp16 numbers, right to about seven digits.

    A single constant would be stored in fp16 and be wrong by up to 0.02 %, which a sharp softmax
    shows; where one is exact (a power of two) it is enough.
    """
    if float(np.float16(scale)) == scale:
        return (scale,)
    root = np.float16(scale**0.5).view(np.uint16)
    patterns = np.arange(root - _NEIGHBOURS, root + _NEIGHBOURS, dtype=np.uint16)
    first = patterns.view(np.float16).astype(float)
    second = (scale / first).astype(np.float16).astype(float)
    best = int(np.argmin(np.abs(first * second - scale)))
    return float(first[best]), float(second[best])


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """`(B, C, 1, S)` to `(B, heads, C / heads, S)`."""
    batch, channels, _, length = sizes(x)
    return x.reshape(batch, heads, channels // heads, length)


def _split(x: torch.Tensor, width: int, dim: int) -> tuple[torch.Tensor, ...]:
    """Pieces of that width along an axis, the last one perhaps narrower."""
    size = sizes(x)[dim]
    if size <= width:
        return (x,)
    # Explicit sizes: with a single number the converter computes them in the program.
    return x.split([min(width, size - begin) for begin in range(0, size, width)], dim=dim)  # type: ignore[no-any-return,no-untyped-call]


class MobileAttention(nn.Module):
    """diffusers' `Attention` on `(B, C, 1, S)`: projections, heads, output projection.

    Norm, residual and output scale around it belong to whoever calls it.

    Raises:
        UserError: the source has a part that plain attention has not.
    """

    def __init__(self, source: Any, options: MobileOptions) -> None:
        super().__init__()
        _check_plain(source)
        self.heads: int = source.heads
        self.options = options
        self.to_q = linear_to_conv(source.to_q)
        self.to_k = linear_to_conv(source.to_k)
        self.to_v = linear_to_conv(source.to_v)
        self.to_out = nn.ModuleList([linear_to_conv(source.to_out[0])])

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        context = x if context is None else context
        mixed = attend(
            self.to_q(x), self.to_k(context), self.to_v(context), self.heads, self.options
        )
        return self.to_out[0](mixed)  # type: ignore[no-any-return]


def _check_plain(source: Any) -> None:
    if type(source) is not DiffusersAttention:
        raise UserError(f"attention of type {type(source).__name__} has no mobile form")
    if type(source.processor) not in (AttnProcessor, AttnProcessor2_0):
        raise UserError(
            f"attention processor {type(source.processor).__name__} has no mobile form: "
            "load the network without adapters"
        )
    for name in _UNKNOWN_PARTS:
        if getattr(source, name, None):
            raise UserError(f"attention with {name} has no mobile form")
    width = source.inner_dim // source.heads
    if source.inner_kv_dim != source.inner_dim or not math.isclose(source.scale, width**-0.5):
        raise UserError("attention with shared key heads or its own scale has no mobile form")
