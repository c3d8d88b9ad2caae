"""What a conversion will do, decided before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coreml_sd.compress.supported import PaletteSpec
from coreml_sd.config import ConversionConfig
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.pipeline import DiffusionModel


@dataclass(frozen=True)
class TargetSettings:
    """What one target settled on; each target adds its own. `palettes`: of its weights, or None."""

    palettes: PaletteSpec | None = None


@dataclass(frozen=True)
class Plan:
    """A conversion with every choice made.

    `settings` are those of each target by its name. `notes` say where a target does something else
    than a knob asks for, and what; `threads` is how many the work on weights may use (None: all).
    """

    config: ConversionConfig
    model: DiffusionModel
    components: tuple[ComponentSpec, ...]
    settings: Mapping[str, TargetSettings]
    notes: tuple[str, ...]
    threads: int | None = None

    @property
    def palettes(self) -> PaletteSpec | None:
        """The palettes of the first target that has any."""
        specs = (settings.palettes for settings in self.settings.values())
        return next((spec for spec in specs if spec is not None), None)
