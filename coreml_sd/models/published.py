"""The networks as published, behind the inputs and outputs of our components."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class PublishedTextEncoder(nn.Module):
    """input_ids `(1, T)` as floats -> last_hidden_state `(1, T, C)`, pooled_outputs `(1, C)`."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        result = self.network(input_ids.long())
        return result.last_hidden_state, result.pooler_output


class PublishedUNet(nn.Module):
    """sample, timestep `(B,)`, encoder_hidden_states `(B, C, 1, T)` -> noise_pred."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor
    ) -> tuple[torch.Tensor]:
        context = encoder_hidden_states.squeeze(2).transpose(1, 2)
        return (self.network(sample, timestep, context).sample,)


class PublishedVAEDecoder(nn.Module):
    """z `(1, 4, h, w)` -> image `(1, 3, H, W)`, -1 to 1."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.network.decode(z).sample,)


class PublishedVAEEncoder(nn.Module):
    """x `(1, 3, H, W)` -> latent `(1, 8, h, w)`: mean, then log variance, unclipped."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        hidden = self.network.encoder(x)
        return (hidden if self.network.quant_conv is None else self.network.quant_conv(hidden),)
