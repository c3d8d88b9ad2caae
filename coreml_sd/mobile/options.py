"""The choices of the mobile form; importing this module does not load torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from coreml_sd.errors import UserError

Attention = Literal["split-einsum", "split-einsum-v2", "original", "sdpa", "batched"]
Layout = Literal["channels-first", "channels-last"]
Gelu = Literal["exact", "clipped"]
Arithmetic = Literal["fp16", "fp32"]


@dataclass(frozen=True)
class MobileOptions:
    """What may differ between two mobile forms of one network.

    `attention` names the arithmetic of every attention. `query_chunk` is the longest piece of the
    query axis in tokens, used by split-einsum-v2 only; `score_limit` is the largest tensor of
    attention scores in fp32 bytes, used by batched only.

    `layout` says where the runtime keeps the channels of a map. Tensors of the network's interface
    are channels first in both. Channels last goes with batched attention: bodies of transformers
    stay `(B, C, H, W)` instead of `(B, C, 1, H*W)`, and norms and attentions look at the channels
    last, so that no transpose stays around a convolution. `batch` is that of the exported network
    (channels last needs it for constants).

    `arithmetic` is the narrowest that the runtime computes in: for fp16 group norm brings its input
    into range first. `gelu` clipped spells GELU in plain ops. With `pooled` a text encoder gives
    its pooled output; without, one whose pooled output the UNet takes (Stable Diffusion XL's) picks
    it with ops that a GPU delegate has.

    Raises:
        UserError: an unknown attention, or a query chunk below one.
    """

    attention: Attention = "split-einsum"
    query_chunk: int = 512
    score_limit: int = 32 * 2**20
    layout: Layout = "channels-first"
    batch: int = 1
    arithmetic: Arithmetic = "fp16"
    gelu: Gelu = "exact"
    pooled: bool = True

    def __post_init__(self) -> None:
        if self.attention not in get_args(Attention):
            known = ", ".join(get_args(Attention))
            raise UserError(f"unknown attention {self.attention!r}: choose one of {known}")
        if (self.attention == "batched") != (self.layout == "channels-last"):
            raise UserError("batched attention and channels-last layout go together")
        if self.query_chunk < 1:
            raise UserError(f"query chunk {self.query_chunk} is too small: use 1 or more tokens")
