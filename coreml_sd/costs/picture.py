"""What one picture costs: its components together, by the number of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coreml_sd.costs.file_costs import FileCosts
from coreml_sd.models.denoiser import for_steps

STEPS = (1, 8, 20)
_ENCODERS = ("text_encoder", "text_encoder_2")
_DENOISER, _DECODER = "unet", "vae_decoder"
_NEEDED = {"text_encoder", _DENOISER, _DECODER}


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

    `resident_bytes`: the peak with everything loaded that it takes; `staged_bytes`: with one
    component at a time.
    """

    steps: int
    macs: int
    resident_bytes: int
    staged_bytes: int


def picture_costs(
    parts: Mapping[str, PartCosts], few_steps: Mapping[str, int] | None = None
) -> list[PictureCosts]:
    """For each of `STEPS`; nothing where a component that a picture needs is missing.

    Args:
        few_steps: denoisers for few steps, each with the most that it draws with, the fewest first.
    """
    if not parts.keys() >= _NEEDED:
        return []
    further = [(most, name) for name, most in (few_steps or {}).items() if name in parts]
    return [_picture_costs(parts, for_steps(steps, _DENOISER, further), steps) for steps in STEPS]


def _picture_costs(parts: Mapping[str, PartCosts], denoiser: str, steps: int) -> PictureCosts:
    used = {name: part for name, part in parts.items() if name in (*_ENCODERS, denoiser, _DECODER)}
    unet = used[denoiser]
    once = used[_DECODER].macs + sum(
        part.macs * max(1, unet.batch // part.batch)
        for name, part in used.items()
        if name in _ENCODERS
    )
    weights = sum(part.weight_bytes for part in used.values())
    live = max(part.activation_bytes for part in used.values())
    staged = max(part.weight_bytes + part.activation_bytes for part in used.values())
    return PictureCosts(steps, once + steps * unet.macs, weights + live, staged)


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
