"""Attention for runtimes that keep channels last: one batched matmul for all heads."""

from __future__ import annotations

from math import ceil

import torch

from coreml_sd.mobile.shapes import sizes

_FP32_BYTES = 4


def batched_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None,
    score_limit: int,
) -> torch.Tensor:
    """Attention of `(B, C, H, W)` over `(B, C, H', W')`, giving `(B, C, H, W)`.

    The channel axis is moved last before the heads are split off, which undoes the move that an
    exporter to channels-last convolutions makes: of each query, key, value and result one
    transpose stays. `mask` is `(1, 1, Q, K)`. Where the scores of all queries would be above
    `score_limit` bytes in fp32, the queries are taken in equal pieces.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.1).
    """
    width = sizes(query)[1] // heads
    q = _heads(query, heads) * width**-0.5
    k, v = _heads(key, heads).transpose(2, 3), _heads(value, heads)
    pieces = query_pieces(sizes(q)[2], sizes(k)[3], heads * sizes(q)[0], score_limit)
    mixed = []
    for begin, end in pieces:
        scores = (q if len(pieces) == 1 else q[:, :, begin:end]) @ k
        if mask is not None:
            scores = scores + mask[:, :, begin:end]
        mixed.append(scores.softmax(dim=3) @ v)
    joined = torch.cat(mixed, dim=2) if len(mixed) > 1 else mixed[0]
    batch, channels, rows, columns = sizes(query)
    return joined.transpose(1, 2).reshape(batch, rows, columns, channels).permute(0, 3, 1, 2)


def query_pieces(queries: int, keys: int, rows: int, score_limit: int) -> list[tuple[int, int]]:
    """Begin and end of each piece of the query axis; `rows` is batch times heads."""
    pieces = ceil(rows * queries * keys * _FP32_BYTES / score_limit)
    length = ceil(queries / max(pieces, 1))
    return [(begin, min(begin + length, queries)) for begin in range(0, queries, length)]


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """`(B, C, H, W)` to `(B, heads, H*W, C / heads)`."""
    batch, channels, rows, columns = sizes(x)
    last = x.permute(0, 2, 3, 1)
    return last.reshape(batch, rows * columns, heads, channels // heads).transpose(1, 2)
