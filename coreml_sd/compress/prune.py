"""Structured pruning: whole channels of a UNet's largest layers are taken out."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from coreml_sd.compress.channels import ChannelLayer, Kind, channel_layers
from coreml_sd.compress.supported import PRUNE_BLOCK, require_prune_fraction
from coreml_sd.errors import UserError


@dataclass(frozen=True)
class PrunedLayer:
    """What became of one block; channels are those between its two convolutions or linears."""

    name: str
    kind: Kind
    channels_before: int
    channels_after: int


@dataclass(frozen=True)
class PruneReport:
    """What pruning did to one network; `fraction` is the part of its parameters asked for."""

    fraction: float
    parameters_before: int
    parameters_after: int
    layers: tuple[PrunedLayer, ...] = ()

    @property
    def removed(self) -> float:
        """The part of the parameters that was taken out."""
        return 1 - self.parameters_after / self.parameters_before


def prune_module(source_module: nn.Module, fraction: float) -> PruneReport:
    """Take `fraction` of a UNet's parameters out, in place.

    The channels with the smallest weights go, 32 at a time, always from the layer that is the
    largest at that moment, until the fraction is reached or every layer is down to half. Shapes
    become smaller. Inputs and outputs of all blocks stay; the network's `config` does too, and
    no longer describes it.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.6): the
    largest layers, without a sensitivity metric. Which channels is not told there.

    Raises:
        UserError: a fraction out of range, or a network with no channels to spare.
    """
    require_prune_fraction(fraction)
    before = _parameters(source_module)
    layers = channel_layers(source_module)
    blocks = _largest_first(layers, fraction * before)
    if not blocks:
        raise UserError(_nothing_to_take(layers))
    pruned = []
    for layer in layers:
        if taken := blocks[layer.name] * layer.block:
            layer.remove(taken)
            pruned.append(
                PrunedLayer(layer.name, layer.kind, layer.channels, layer.channels - taken)
            )
    return PruneReport(fraction, before, _parameters(source_module), tuple(pruned))


def _largest_first(layers: Sequence[ChannelLayer], wanted: float) -> Counter[str]:
    """Blocks to take from each layer, by name, for `wanted` parameters."""
    blocks: Counter[str] = Counter()
    cost = {layer.name: layer.channel_parameters for layer in layers}
    queue = [(-layer.channels * cost[layer.name], layer.name, layer) for layer in layers]
    heapq.heapify(queue)
    while queue and wanted > 0:
        size, name, layer = heapq.heappop(queue)
        if blocks[name] < layer.spare_blocks:
            blocks[name] += 1
            wanted -= layer.block * cost[name]
            heapq.heappush(queue, (size + layer.block * cost[name], name, layer))
    return +blocks


def _nothing_to_take(layers: Sequence[ChannelLayer]) -> str:
    if not layers:
        return "prune: the unet has no plain feed-forward or residual block; leave --prune out"
    widest = max(layers, key=lambda layer: layer.channels)
    return (
        f"prune: no layer of the unet has {PRUNE_BLOCK} channels to spare (the widest, "
        f"{widest.name}, has {widest.channels}; half of them stay); leave --prune out"
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
