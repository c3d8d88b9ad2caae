"""The pooled output of a text encoder: the state at the end token, and its projection."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.linear_to_conv import linear_to_conv
from coreml_sd.mobile.shapes import sizes

# Configs written before the end token was corrected say 2; the pooled token is then the one with
# the highest id.
_LEGACY_END_TOKEN = 2
_CLIP_VOCABULARY = 49_408


def end_of(config: Any) -> int:
    """The id of the end token; an old config does not say it, and it is the highest.

    Raises:
        UserError: an old config with more tokens than CLIP has: the end token is not the last.
    """
    if config.eos_token_id != _LEGACY_END_TOKEN:
        return int(config.eos_token_id)
    if config.vocab_size > _CLIP_VOCABULARY:
        raise UserError(
            f"text encoder with {config.vocab_size - _CLIP_VOCABULARY} added tokens and an old end "
            "token: give its config eos_token_id, or convert for Core ML only"
        )
    return int(config.vocab_size) - 1


class PooledText(nn.Module):
    """States `(B, C, 1, T)` and ids `(B, T)` to the state at the end token, `(B, C)`.

    The state is picked by a sum over a mask of zeros and one: exact, and without a gather.
    """

    positions: torch.Tensor

    def __init__(self, end_token: int, length: int) -> None:
        super().__init__()
        self.end_token = end_token
        positions = torch.arange(length, dtype=torch.int32)[None]
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, states: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        ids = input_ids.int()
        if self.end_token != _LEGACY_END_TOKEN:
            ids = (ids == self.end_token).int()  # its maximum is at the first end token
        end = ids.argmax(dim=1, keepdim=True).int()
        picked = (self.positions == end).float()
        pooled: torch.Tensor = (states.squeeze(2) * picked.unsqueeze(1)).sum(dim=2)
        return pooled


class LookupPooledText(nn.Module):
    """As `PooledText`, without the argmax, which GPU delegates do not have.

    A table says of each id whether it ends a prompt, and a token whose mark exceeds the number of
    marks before it is the first of them: whole numbers up to T, exact in fp16.
    """

    marks: torch.Tensor
    before: torch.Tensor

    def __init__(self, end_token: int, vocabulary: int, length: int) -> None:
        super().__init__()
        marks = torch.zeros(vocabulary, 1)
        marks[end_token] = 1
        self.register_buffer("marks", marks, persistent=False)
        before = torch.ones(length, length).tril(diagonal=-1)[:, :, None, None]
        self.register_buffer("before", before, persistent=False)

    def forward(self, states: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        batch, length = sizes(input_ids)
        marks = F.embedding(input_ids.int(), self.marks).reshape(batch, length, 1, 1)
        first = F.relu(marks - F.conv2d(marks, self.before)).reshape(batch, 1, 1, length)
        pooled: torch.Tensor = (states * first).sum(dim=(2, 3))
        return pooled


class PooledProjection(nn.Conv2d):
    """The linear layer after pooling, `(B, C)` to `(B, P)`, as a 1x1 convolution."""

    def __init__(self, source: Any) -> None:
        plain = linear_to_conv(source)
        biased = plain.bias is not None
        super().__init__(plain.in_channels, plain.out_channels, 1, bias=biased, device="meta")
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return super().forward(pooled.reshape(*sizes(pooled), 1, 1)).flatten(1)
