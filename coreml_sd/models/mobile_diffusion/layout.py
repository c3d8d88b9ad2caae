"""Where a MobileDiffusion UNet has its blocks, decided by the switches of its config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Level:
    """One resolution: residual blocks on the way down and up, the transformer layers behind each of
    them, whether those layers have self-attention beside cross-attention, and whether the residual
    blocks have separable convolutions."""

    channels: int
    down_blocks: int
    up_blocks: int
    down_layers: int
    up_layers: int
    self_attention: bool
    separable: bool


@dataclass(frozen=True)
class Layout:
    """Levels from the largest map to the smallest, then the middle: residual blocks, and layers of
    the transformer that stands behind each of them but the last (or behind the only one)."""

    levels: tuple[Level, ...]
    middle_blocks: int
    middle_layers: int
    middle_separable: bool


def layout(config: Mapping[str, Any]) -> Layout:
    """The blocks that a config of `MobileDiffusionUNet` asks for.

    With the transformers in the middle the smallest map has most of them, `inner_layers` on the way
    down, in the middle and on the way up; else each level but the smallest has one layer behind
    each residual block, and the middle one, as Stable Diffusion has it.
    """
    widths = tuple(config["block_out_channels"])
    smallest = len(widths) - 1
    inner = config["transformers_in_middle"]
    # The smallest map that has transformers on its way down and up.
    centre = smallest if inner else smallest - 1
    down, middle, up = config["inner_layers"] if inner else (1, 1, 1)
    levels = []
    for index, channels in enumerate(widths):
        full = not config["decoupled_attention"] or index >= centre
        layers = _layers(index, centre, (down, up), full)
        pruned = config["pruned_blocks"] and index < smallest
        blocks = 1 if pruned else config["layers_per_block"]
        separable = config["separable_convolutions"] and index >= centre
        levels.append(Level(channels, blocks, blocks + 1, *layers, full, separable))
    return Layout(
        tuple(levels),
        1 if config["pruned_blocks"] else 2,
        middle,
        config["separable_convolutions"],
    )


def _layers(index: int, centre: int, inner: tuple[int, int], full: bool) -> tuple[int, int]:
    if index == centre:
        return inner
    if index > centre or (index == 0 and not full):
        return 0, 0
    return 1, 1
