"""Attention for runtimes that keep channels last: one batched matmul for all heads."""

from __future__ import annotations

from math import ceil
from typing import Literal

import torch

from coreml_sd.mobile.shapes import sizes

Weighing = Literal["softmax", "relu"]

_FP32_BYTES = 4


def weighed(scores: torch.Tensor, weighing: Weighing, keys: int) -> torch.Tensor:
    """Scores to weights over the axis of the keys; those of ReLU are still to be divided by their
    number."""
    return scores.relu() if weighing == "relu" else scores.softmax(dim=keys)


def batched_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None,
    score_limit: int,
    weighing: Weighing = "softmax",
) -> torch.Tensor:
    """Attention of `(B, C, H, W)` over `(B, C, H', W')`, giving `(B, C, H, W)`.

    The channel axis is moved last before the heads are split off, which undoes the move that an
    exporter to channels-last convolutions makes: of each query, key, value and result one
    transpose stays. `mask` is `(1, 1, Q, K)`. Where the scores of all queries would be above
    `score_limit` bytes in fp32, the queries are taken in equal pieces. The batch and the
    heads are parted before the pieces are joined: of joined products with the same values the
    converter makes one product of joined scores, and the large tensor would be back.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.1).
    """
    batch, channels, rows, columns = sizes(query)
    width = channels // heads
    q, v = _heads(query, heads) * width**-0.5, _heads(value, heads)
    k = _keys(key, heads)
    if weighing == "relu":
        v = v * (1 / sizes(v)[1])
    pieces = query_pieces(rows * columns, sizes(k)[2], heads * batch, score_limit)
    mixed = []
    for begin, end in pieces:
        scores = (q if len(pieces) == 1 else q[:, begin:end]) @ k
        if mask is not None:
            scores = scores + mask[0, :, begin:end]
        mixed.append((weighed(scores, weighing, 2) @ v).reshape(batch, heads, end - begin, width))
    joined = torch.cat(mixed, dim=2) if len(mixed) > 1 else mixed[0]
    return joined.transpose(1, 2).reshape(batch, rows, columns, channels).permute(0, 3, 1, 2)


def query_pieces(queries: int, keys: int, rows: int, score_limit: int) -> list[tuple[int, int]]:
    """Begin and end of each piece of the query axis; `rows` is batch times heads.

    The fewest pieces whose scores stay within the limit, or single queries where not even the
    scores of one do.
    """
    longest = max(1, score_limit // (rows * keys * _FP32_BYTES))
    length = ceil(queries / ceil(queries / longest))
    return [(begin, min(begin + length, queries)) for begin in range(0, queries, length)]


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """`(B, C, H, W)` to `(B * heads, H * W, C / heads)`.

    Rank 3, which the converter would make of it in any case: the Android GPU delegate misreads
    a mask of rank 4 that is added to scores of rank 3.
    """
    apart = _apart(x, heads).transpose(1, 2)
    return apart.reshape(-1, *sizes(apart)[2:])


def _keys(x: torch.Tensor, heads: int) -> torch.Tensor:
    """`(B, C, H, W)` to `(B * heads, C / heads, H * W)`, turned for the product by the transpose
    that splits the heads off: several pieces of queries would need another one."""
    apart = _apart(x, heads).permute(0, 2, 3, 1)
    return apart.reshape(-1, *sizes(apart)[2:])


def _apart(x: torch.Tensor, heads: int) -> torch.Tensor:
    """`(B, C, H, W)` to `(B, H * W, heads, C / heads)`, which moves nothing in channels last."""
    batch, channels, rows, columns = sizes(x)
    return x.permute(0, 2, 3, 1).reshape(batch, rows * columns, heads, channels // heads)
