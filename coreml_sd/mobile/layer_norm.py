"""Layer norm over the channel axis of channels-first sequences."""

from __future__ import annotations

import torch
from torch import nn

from coreml_sd.mobile.layer_weights import not_plain, shared


class ChannelLayerNorm(nn.Module):
    """`nn.LayerNorm` over C, applied to `(B, C, 1, S)`.

    Written so that the converter recognises it as one `layer_norm` op over axis 1, which runs
    without a transpose.

    Raises:
        UserError: the source is not a plain affine LayerNorm over one axis.
    """

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        if type(source) is not nn.LayerNorm or len(source.normalized_shape) != 1:
            raise not_plain(source, "LayerNorm over one axis")
        if source.weight is None or source.bias is None:
            raise not_plain(source, "LayerNorm with weight and bias")
        self.weight = shared(source.weight)
        self.bias = shared(source.bias)
        self.eps = source.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        normal = centred * torch.rsqrt(variance + self.eps)
        return normal * self.weight[None, :, None, None] + self.bias[None, :, None, None]
