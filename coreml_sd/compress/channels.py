"""The inner channels of a UNet: which weights each one owns, and how to take channels out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm
from typing import Any, Literal

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from coreml_sd.compress.supported import PRUNE_BLOCK

Kind = Literal["feed-forward", "residual"]

# The rest of a layer, however large it is: without retraining no layer should lose its function.
KEEP_AT_LEAST = 0.5


@dataclass(frozen=True)
class Rows:
    """One entry per channel along the first axis of a layer's weight and bias.

    With `copies` the channels lie there several times, one set after another.
    """

    layer: nn.Module
    copies: int = 1

    def parameters(self) -> int:
        return sum(parameter.numel() for _, parameter in self._owned())

    def squares(self) -> torch.Tensor:
        """The squared L2 norm of each channel's part, in fp64."""
        parts = [self._by_channel(parameter) for _, parameter in self._owned()]
        return torch.stack([_squares(part, dim=1) for part in parts]).sum(0)

    def keep(self, channels: torch.Tensor) -> None:
        """Leave only the given channels."""
        for name, parameter in self._owned():
            kept = self._by_channel(parameter)[:, channels]
            _replace(self.layer, name, kept.reshape(-1, *parameter.shape[1:]))
        _resize(self.layer, "out", self.copies * len(channels))

    def _owned(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self.layer.named_parameters(recurse=False)

    def _by_channel(self, parameter: torch.Tensor) -> torch.Tensor:
        return parameter.detach().reshape(self.copies, -1, *parameter.shape[1:])


@dataclass(frozen=True)
class Columns:
    """One entry per channel along the second axis of a layer's weight: its input channels."""

    layer: nn.Conv2d | nn.Linear

    def parameters(self) -> int:
        return self.layer.weight.numel()

    def squares(self) -> torch.Tensor:
        """The squared L2 norm of each channel's part, in fp64."""
        return _squares(self.layer.weight.detach(), dim=1)

    def keep(self, channels: torch.Tensor) -> None:
        """Leave only the given channels."""
        _replace(self.layer, "weight", self.layer.weight.detach()[:, channels])
        _resize(self.layer, "in", len(channels))


@dataclass(frozen=True)
class ChannelLayer:
    """The inner channels of one feed-forward or residual block, and every weight they own.

    `groups` > 1: the channels pass a group norm, so that every group must lose as many.
    """

    name: str
    kind: Kind
    channels: int
    groups: int
    parts: tuple[Rows | Columns, ...]

    @property
    def channel_parameters(self) -> int:
        """Parameters that go with one channel."""
        return sum(part.parameters() for part in self.parts) // self.channels

    @property
    def block(self) -> int:
        """How many channels are taken at a time."""
        return lcm(PRUNE_BLOCK, self.groups)

    @property
    def spare_blocks(self) -> int:
        """How many blocks may be taken. Half of every group stays, so no group becomes empty."""
        return int(self.channels * (1 - KEEP_AT_LEAST)) // self.block

    def remove(self, count: int) -> None:
        """Take out the `count` channels of smallest norm, evenly from the groups."""
        norms = torch.stack([part.squares() for part in self.parts]).sum(0)
        by_group = norms.reshape(self.groups, -1).argsort(dim=1, stable=True)
        first = torch.arange(self.groups)[:, None] * (self.channels // self.groups)
        kept = (by_group[:, count // self.groups :] + first).flatten().sort().values
        for part in self.parts:
            part.keep(kept)


def channel_layers(network: nn.Module) -> list[ChannelLayer]:
    """The blocks of a UNet with inner channels that can be taken out.

    Those of a residual block lie between its two convolutions, those of a feed-forward between
    its two linear layers. Blocks of other types are left out.
    """
    found = []
    for name, module in network.named_modules():
        layer = _feed_forward(name, module) or _residual(name, module)
        if layer is not None:
            found.append(layer)
    return found


def _feed_forward(name: str, module: Any) -> ChannelLayer | None:
    if type(module) is not FeedForward or type(module.net[0]) is not GEGLU:
        return None
    proj, out = module.net[0].proj, module.net[2]
    if not type(proj) is type(out) is nn.Linear:
        return None
    # The first half of the rows makes the hidden channels, the second half their gates.
    parts = (Rows(proj, copies=2), Columns(out))
    return ChannelLayer(name, "feed-forward", out.in_features, 1, parts)


def _residual(name: str, module: Any) -> ChannelLayer | None:
    if type(module) is not ResnetBlock2D or module.time_embedding_norm != "default":
        return None
    if not type(module.conv1) is type(module.conv2) is nn.Conv2d:
        return None
    owners = (module.conv1, module.time_emb_proj, module.norm2)
    parts: list[Rows | Columns] = [Rows(layer) for layer in owners if layer is not None]
    parts.append(Columns(module.conv2))
    return ChannelLayer(
        name, "residual", module.conv1.out_channels, module.norm2.num_groups, tuple(parts)
    )


def _squares(weight: torch.Tensor, dim: int) -> torch.Tensor:
    """Sums of squares over all axes but `dim`."""
    others = [axis for axis in range(weight.ndim) if axis != dim]
    norms: torch.Tensor = torch.linalg.vector_norm(weight, dim=others, dtype=torch.float64)
    return norms.square()


def _replace(layer: nn.Module, name: str, value: torch.Tensor) -> None:
    trained = getattr(layer, name).requires_grad
    setattr(layer, name, nn.Parameter(value.contiguous(), requires_grad=trained))


def _resize(layer: nn.Module, side: Literal["in", "out"], size: int) -> None:
    """Let the layer's own attribute say its new size."""
    names = {nn.Linear: f"{side}_features", nn.Conv2d: f"{side}_channels"}
    setattr(layer, names.get(type(layer), "num_channels"), size)
