"""What a family says about a whole pipeline: its components and the facts generation needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.diffusers_folder import DiffusersFolder
from coreml_sd.models.source import Source


@dataclass(frozen=True)
class PipelineFacts:
    """What generation must know beside the networks; stored in the manifest as it stands.

    `size` is the picture's (height, width) in pixels, `latent_size` the latent's.
    """

    family: str
    prediction_type: str
    size: tuple[int, int]
    latent_size: tuple[int, int]
    latent_channels: int
    vae_scale_factor: int
    scaling_factor: float
    shift_factor: float
    batch: int
    max_tokens: int
    scheduler: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DiffusionModel:
    """A model ready to be converted, run or inspected: where it is, its facts and components."""

    source: Source
    folder: DiffusersFolder
    facts: PipelineFacts
    components: tuple[ComponentSpec, ...]

    def component(self, name: str) -> ComponentSpec:
        """One component by name.

        Raises:
            UserError: this model has none of that name.
        """
        for component in self.components:
            if component.name == name:
                return component
        held = ", ".join(component.name for component in self.components)
        raise UserError(f"{self.source.name}: no component {name}; it has {held}")


@dataclass(frozen=True)
class Family:
    """A kind of pipeline: the diffusers classes it covers and how to describe one of them."""

    name: str
    pipeline_classes: tuple[str, ...]
    describe: Callable[[Source, DiffusersFolder, tuple[int, int] | None, int], DiffusionModel]
