"""The networks as published, behind the inputs and outputs of our components."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class _Published(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network


class PublishedTextEncoder(_Published):
    """input_ids `(1, T)` as floats -> last_hidden_state `(1, T, C)`, pooled_outputs `(1, C)`."""

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        result = self.network(input_ids.long())
        return result.last_hidden_state, result.pooler_output


class PublishedPenultimateText(_Published):
    """input_ids `(1, T)` as floats -> hidden_embeds `(1, T, C)`, pooled_outputs `(1, P)`.

    The states before the last layer, and the pooled output after it, projected where the network
    has a projection.
    """

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        result = self.network(input_ids.long(), output_hidden_states=True)
        pooled = result.text_embeds if "text_embeds" in result else result.pooler_output
        return result.hidden_states[-2], pooled


class PublishedUNet(_Published):
    """sample, timestep `(B,)`, then the UNet's `conditions` by name -> noise_pred.

    encoder_hidden_states are `(B, C, 1, T)`, timestep_cond `(B, W)`; what Stable Diffusion XL adds
    are time_ids `(B, 6)` and text_embeds `(B, P)`.
    """

    def __init__(
        self, network: Any, conditions: tuple[str, ...] = ("encoder_hidden_states",)
    ) -> None:
        super().__init__(network)
        self.conditions = conditions

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, *conditions: torch.Tensor
    ) -> tuple[torch.Tensor]:
        named = dict(zip(self.conditions, conditions, strict=True))
        context = named.pop("encoder_hidden_states").squeeze(2).transpose(1, 2)
        further: dict[str, Any] = {}
        if "timestep_cond" in named:
            further["timestep_cond"] = named.pop("timestep_cond")
        if named:
            further["added_cond_kwargs"] = named
        return (self.network(sample, timestep, context, **further).sample,)


class PublishedVAEDecoder(_Published):
    """z `(1, 4, h, w)` -> image `(1, 3, H, W)`, -1 to 1."""

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.network.decode(z).sample,)


class PublishedVAEEncoder(_Published):
    """x `(1, 3, H, W)` -> latent `(1, 8, h, w)`: mean, then log variance, unclipped."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        hidden = self.network.encoder(x)
        return (hidden if self.network.quant_conv is None else self.network.quant_conv(hidden),)
