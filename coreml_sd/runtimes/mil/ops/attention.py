"""The fused attention op of iOS 18."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_sd.runtimes.mil.ops.registry import op


@op("scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    """(B, heads, Q, E), (B, heads, K, E), (B, heads, K, V); the scale is 1 / sqrt(E)."""
    mask = (
        attn_mask.bool() if attn_mask is not None and attn_mask.dtype == torch.bool else attn_mask
    )
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
