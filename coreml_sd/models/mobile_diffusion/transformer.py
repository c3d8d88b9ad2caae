"""The transformer of a MobileDiffusion UNet.

Layers have the names of diffusers' `Transformer2DModel`, so that with every switch off weights of
Stable Diffusion 1.x fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

Weighing = Literal["softmax", "relu"]
Gate = Literal["gelu", "silu"]


@dataclass(frozen=True)
class LayerKind:
    """What the layers of one transformer are made of; `context` is the width of the text."""

    heads: int
    context: int
    expansion: int
    self_attention: bool
    shared_key_value: bool
    weighing: Weighing
    gate: Gate


class Attention(nn.Module):
    """Attention of `(B, S, C)` over itself or over a context `(B, T, D)`.

    With a shared projection (T3.3) keys and values are the same numbers, `to_kv`. Weighed by ReLU
    (T3.5) each score above zero counts as it is, divided by the number of keys: the mean then has
    the size that softmax gives it, so that a network trained with softmax can go on with ReLU. The
    paper's ReLU attention is told; the division is that of Wortsman et al., "Replacing softmax with
    ReLU in Vision Transformers", arXiv 2309.08586, and ours to add.
    """

    def __init__(self, width: int, context: int, kind: LayerKind) -> None:
        super().__init__()
        self.heads = kind.heads
        self.weighing = kind.weighing
        self.to_q = nn.Linear(width, width, bias=False)
        if kind.shared_key_value:
            self.to_kv = nn.Linear(context, width, bias=False)
        else:
            self.to_k = nn.Linear(context, width, bias=False)
            self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    @property
    def shares_key_value(self) -> bool:
        """Whether keys are values."""
        return hasattr(self, "to_kv")

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        context = x if context is None else context
        query = self._heads(self.to_q(x))
        if self.shares_key_value:
            key = value = self._heads(self.to_kv(context))
        else:
            key, value = self._heads(self.to_k(context)), self._heads(self.to_v(context))
        scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
        if self.weighing == "relu":
            weights = F.relu(scores) / scores.shape[3]
        else:
            weights = scores.softmax(dim=3)
        mixed: torch.Tensor = self.to_out[0]((weights @ value).transpose(1, 2).flatten(2))
        return mixed

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        return x.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)


class GatedProjection(nn.Module):
    """Half of the projected channels, gated by GELU or Swish of the other half (T3.4)."""

    def __init__(self, width: int, inner: int, gate: Gate) -> None:
        super().__init__()
        self.gate = gate
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden, gate = self.proj(x).chunk(2, dim=2)
        return hidden * (F.silu(gate) if self.gate == "silu" else F.gelu(gate))  # type: ignore[no-any-return]


class GatedFeedForward(nn.Module):
    """The feed-forward part, `(B, S, C)`.

    `expansion` counts both halves of the gated projection, as the paper does: 8 in Stable
    Diffusion, trimmed to 6 (T3.6; 1,280 channels then become 7,680 and, gated, 3,840).
    """

    def __init__(self, width: int, kind: LayerKind) -> None:
        super().__init__()
        inner = width * kind.expansion // 2
        # Index 1 is diffusers' dropout.
        self.net = nn.ModuleList(
            [GatedProjection(width, inner, kind.gate), nn.Identity(), nn.Linear(inner, width)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net[2](self.net[0](x))  # type: ignore[no-any-return]


class TransformerLayer(nn.Module):
    """Self-attention where the level has it (T3.2), cross-attention, feed-forward."""

    def __init__(self, width: int, kind: LayerKind) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width) if kind.self_attention else None
        self.attn1 = Attention(width, width, kind) if kind.self_attention else None
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, kind.context, kind)
        self.norm3 = nn.LayerNorm(width)
        self.ff = GatedFeedForward(width, kind)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        if self.norm1 is not None and self.attn1 is not None:
            x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))  # type: ignore[no-any-return]


class MiddleTransformer(nn.Module):
    """Layers on the map `(B, C, H, W)` with text `(B, T, D)`, between two 1x1 convolutions."""

    def __init__(self, width: int, layers: int, groups: int, kind: LayerKind) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList(
            [TransformerLayer(width, kind) for _ in range(layers)]
        )
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        hidden = self.proj_in(self.norm(x))
        size = hidden.shape[2:]
        hidden = hidden.flatten(2).transpose(1, 2)
        for layer in self.transformer_blocks:
            hidden = layer(hidden, context)
        hidden = hidden.transpose(1, 2).unflatten(2, size)
        return x + self.proj_out(hidden)  # type: ignore[no-any-return]
