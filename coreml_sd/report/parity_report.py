"""What `parity` found of one bundle: figures beside their gates, pictures, memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd import __version__
from coreml_sd.bundle import Bundle
from coreml_sd.compress.source_network import pruning_sentence
from coreml_sd.costs.picture import PictureCosts
from coreml_sd.generation.generate import GenerationRequest
from coreml_sd.metrics import psnr_db
from coreml_sd.parity.checks import Check, ComponentParity, figure
from coreml_sd.report.memory import MemoryReport
from coreml_sd.runtimes.open_runtime import Runtime
from coreml_sd.targets.saved_files import bundle_picture_costs

AMPLIFICATION = 8  # of the shown difference


@dataclass(frozen=True)
class PictureRow:
    """One prompt and seed drawn from the source and from the files on each runtime, `(H, W, 3)`
    uint8 each; `converted` goes from the runtime's name to its picture."""

    request: GenerationRequest
    source: NDArray[np.uint8]
    converted: dict[str, NDArray[np.uint8]]

    def psnr(self, runtime: str) -> float:
        """20 log10(255 / rmse) over the pixels, dB."""
        return psnr_db(
            np.append(self.source.astype(np.float64).ravel(), 255.0),
            np.append(self.converted[runtime].astype(np.float64).ravel(), 255.0),
        )

    def difference(self, runtime: str) -> NDArray[np.uint8]:
        """Absolute difference, amplified."""
        gap = np.abs(self.source.astype(np.int16) - self.converted[runtime].astype(np.int16))
        return np.clip(gap * AMPLIFICATION, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class ParityReport:
    """Everything compared for one bundle."""

    bundle: Bundle
    runtimes: tuple[Runtime, ...]
    components: tuple[ComponentParity, ...]
    pictures: tuple[PictureRow, ...]
    memory: MemoryReport | None = None
    pipeline: ComponentParity | None = None
    manifest: ComponentParity | None = None
    unchecked: tuple[str, ...] = ()

    @property
    def compared(self) -> tuple[ComponentParity, ...]:
        """What the bundle tells of itself, what generation is told, where diffusers has a pipeline
        for it, then the components."""
        return (*(each for each in (self.manifest, self.pipeline) if each), *self.components)

    @property
    def passed(self) -> bool:
        """Whether every gate was reached, and there were some for each that was compared."""
        return bool(self.components) and all(entry.passed for entry in self.compared)

    def at_conversion(self, entry: ComponentParity, check: Check) -> str:
        """The figure of the same check when the bundle was made; `-` where there is none."""
        manifest = self.bundle.manifest
        if entry is self.pipeline:
            told = manifest.get("source_parity")
        else:
            parity = self.bundle.components.get(entry.component, {}).get("parity", {})
            told = parity.get(entry.target)
        for before in (told or {}).get("checks", []):
            if before["name"] == check.name:
                return figure(before["value"], before["unit"])
        return "-"

    @property
    def notes(self) -> list[str]:
        """Where a target does something else than a knob asked for, and what pruning did."""
        pruned = {n: e["pruning"] for n, e in self.bundle.components.items() if "pruning" in e}
        said: list[str] = self.bundle.manifest.get("notes", [])
        return said + [pruning_sentence(name, facts) for name, facts in pruned.items()]

    @cached_property
    def picture_costs(self) -> dict[str, list[PictureCosts]]:
        """What a picture costs with the files of each target that has all it takes."""
        counted = {name: bundle_picture_costs(self.bundle, name) for name in self.bundle.targets}
        return {name: costs for name, costs in counted.items() if costs}

    def to_json(self) -> dict[str, Any]:
        """Machine-readable form."""
        return {
            "software": f"coreml-sd {__version__}",
            "bundle": str(self.bundle.path),
            "model": self.bundle.manifest["model"],
            "notes": self.notes,
            "passed": self.passed,
            "runtimes": {runtime.name: runtime.label for runtime in self.runtimes},
            "manifest": self._entry(self.manifest) if self.manifest else None,
            "pipeline": self._entry(self.pipeline) if self.pipeline else None,
            "components": [
                {"component": entry.component, "target": entry.target, **self._entry(entry)}
                for entry in self.components
            ],
            "unchecked": list(self.unchecked),
            "pictures": [self._row(row) for row in self.pictures],
            "picture_costs": {
                name: [dataclasses.asdict(each) for each in costs]
                for name, costs in self.picture_costs.items()
            },
            "memory": self.memory.to_json() if self.memory else None,
        }

    def _entry(self, entry: ComponentParity) -> dict[str, Any]:
        checks = [
            {**check.to_json(), "at_conversion": self.at_conversion(entry, check)}
            for check in entry.checks
        ]
        return {**entry.to_json(), "checks": checks}

    def _row(self, row: PictureRow) -> dict[str, Any]:
        decibels = {name: row.psnr(name) for name in row.converted}
        return {
            "prompt": row.request.prompt,
            "seed": row.request.seed,
            "steps": row.request.steps,
            "scheduler": row.request.scheduler,
            "psnr_db": {
                name: round(value, 2) if np.isfinite(value) else "identical"
                for name, value in decibels.items()
            },
        }
