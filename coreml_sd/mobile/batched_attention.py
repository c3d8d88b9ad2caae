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
    `score_limit` bytes in fp32, the queries are taken in equal pieces. The heads of each piece are
    merged before the pieces are joined: the converter turns joined products with one and the same
    value matrix into one product of joined scores, and the large tensor would be back.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.1).
    """
    batch, channels, rows, columns = sizes(query)
    width = channels // heads
    q = _heads(query, heads) * width**-0.5
    k, v = _heads(key, heads).transpose(1, 2), _heads(value, heads)
    pieces = query_pieces(rows * columns, sizes(k)[2], heads * batch, score_limit)
    mixed = []
    for begin, end in pieces:
        scores = (q if len(pieces) == 1 else q[:, begin:end]) @ k
        if mask is not None:
            scores = scores + mask[0, :, begin:end]
        mixed.append(_merged(scores.softmax(dim=2) @ v, batch))
    joined = torch.cat(mixed, dim=1) if len(mixed) > 1 else mixed[0]
    return joined.reshape(batch, rows, columns, channels).permute(0, 3, 1, 2)


def query_pieces(queries: int, keys: int, rows: int, score_limit: int) -> list[tuple[int, int]]:
    """Begin and end of each piece of the query axis; `rows` is batch times heads."""
    pieces = ceil(rows * queries * keys * _FP32_BYTES / score_limit)
    length = ceil(queries / max(pieces, 1))
    return [(begin, min(begin + length, queries)) for begin in range(0, queries, length)]


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """`(B, C, H, W)` to `(B * heads, H * W, C / heads)`.

    Rank 3, which the converter would make of it in any case: the Android GPU delegate misreads
    a mask of rank 4 that is added to scores of rank 3.
    """
    batch, channels, rows, columns = sizes(x)
    width = channels // heads
    apart = x.permute(0, 2, 3, 1).reshape(batch, rows * columns, heads, width).transpose(1, 2)
    return apart.reshape(batch * heads, rows * columns, width)


def _merged(x: torch.Tensor, batch: int) -> torch.Tensor:
    """`(B * heads, Q, C / heads)` to `(B, Q, C)`."""
    product, queries, width = sizes(x)
    heads = product // batch
    apart = x.reshape(batch, heads, queries, width).transpose(1, 2)
    return apart.reshape(batch, queries, heads * width)
