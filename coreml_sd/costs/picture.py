"""What one picture costs: its components together, by the number of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coreml_sd.costs.file_costs import FileCosts

STEPS = (1, 8, 20)
_ENCODERS = ("text_encoder", "text_encoder_2")
_NEEDED = {"text_encoder", "unet", "vae_decoder"}


@dataclass(frozen=True)
class PartCosts:
    """One component of one target: the multiply-accumulates of a pass, bytes of its weights and of
    its largest set of live tensors, and rows of its batch."""

    macs: int
    weight_bytes: int
    activation_bytes: int
    batch: int


@dataclass(frozen=True)
class PictureCosts:
    """One picture of `steps` steps. A UNet with twice the rows of the text encoder is one with
    guidance: the encoder runs for both prompts.

    `resident_bytes`: the peak with everything loaded; `staged_bytes`: with one component at a
    time. Neither depends on the steps.
    """

    steps: int
    macs: int
    resident_bytes: int
    staged_bytes: int


def picture_costs(parts: Mapping[str, PartCosts]) -> list[PictureCosts]:
    """For each of `STEPS`; nothing where a component that a picture needs is missing."""
    if not parts.keys() >= _NEEDED:
        return []
    drawing = {name: part for name, part in parts.items() if name != "vae_encoder"}
    unet = drawing["unet"]
    once = drawing["vae_decoder"].macs + sum(
        part.macs * max(1, unet.batch // part.batch)
        for name, part in drawing.items()
        if name in _ENCODERS
    )
    weights = sum(part.weight_bytes for part in drawing.values())
    live = max(part.activation_bytes for part in drawing.values())
    staged = max(part.weight_bytes + part.activation_bytes for part in drawing.values())
    return [PictureCosts(n, once + n * unet.macs, weights + live, staged) for n in STEPS]


def part_costs(files: Sequence[FileCosts], batch: int) -> PartCosts:
    """Of a component's files, which run one after another."""
    return PartCosts(
        sum(file.macs for file in files),
        sum(file.weight_bytes for file in files),
        max(file.activation_bytes for file in files),
        batch,
    )


def rows(component: Mapping[str, Any]) -> int:
    """The batch of a component of a manifest; 1 where it declares no inputs."""
    inputs = component["inputs"]
    return int(inputs[0]["shape"][0]) if inputs else 1
