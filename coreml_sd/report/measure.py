"""The parity report of a bundle: every component, chained chunks, whole pictures."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd import __version__
from coreml_sd.bundle import Bundle
from coreml_sd.config import from_dict
from coreml_sd.convert_coreml import export_whole, mobile_options
from coreml_sd.costs.picture import PictureCosts, bundle_picture_costs
from coreml_sd.denoising.own import default_scheduler
from coreml_sd.errors import UserError
from coreml_sd.generate import GenerationRequest, Generator
from coreml_sd.memory.report import MemoryReport, measure_memory
from coreml_sd.metrics import psnr_db
from coreml_sd.mobile import mobile_form
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.open_model import own_size
from coreml_sd.parity.checks import Check, ComponentParity
from coreml_sd.parity.diffusers_source import diffusers_source, held_against
from coreml_sd.parity.pipeline_checks import pipeline_parity
from coreml_sd.parity.reference import Reference
from coreml_sd.plan import Plan, plan_conversion
from coreml_sd.progress import Progress, Silent
from coreml_sd.runtimes.open_runtime import Runtime, best_coreml_runtime, open_runtime
from coreml_sd.sources import load_source, pruning_sentence

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

    @property
    def compared(self) -> tuple[ComponentParity, ...]:
        """What generation is told, where diffusers has a pipeline for it, then the components."""
        return (*([self.pipeline] if self.pipeline else []), *self.components)

    @property
    def passed(self) -> bool:
        """Whether every gate was reached."""
        return all(entry.passed for entry in self.compared)

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
            "pipeline": self.pipeline.to_json() if self.pipeline else None,
            "components": [
                {"component": entry.component, "target": entry.target, **entry.to_json()}
                for entry in self.components
            ],
            "pictures": [self._row(row) for row in self.pictures],
            "picture_costs": {
                name: [dataclasses.asdict(each) for each in costs]
                for name, costs in self.picture_costs.items()
            },
            "memory": self.memory.to_json() if self.memory else None,
        }

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


def measure(
    bundle: Bundle,
    *,
    prompts: list[str] | None = None,
    runtime: str = "auto",
    progress: Progress | None = None,
) -> ParityReport:
    """Hold a bundle against its source model.

    Args:
        prompts: to draw on both sides (default: the model's own); an empty list draws none.

    Raises:
        UserError: the source model is gone or is not the one that was converted.
    """
    progress = progress or Silent()
    plan = plan_conversion(from_dict(bundle.manifest["config"], "manifest.json"))
    if plan.model.folder.digest() != bundle.manifest["model"]["sha256"]:
        raise UserError(
            f"{plan.model.folder.path}: not the model that {bundle.path} was converted from "
            "(its files changed); convert again"
        )
    read = diffusers_source(plan.model.folder)
    told = None
    if read is not None:
        with progress.stage("tokens, scheduler and sizes against diffusers' pipeline"):
            told = pipeline_parity(read, bundle.pipeline, bundle.path, own_size(plan.config))
    components = []
    for name in bundle.components:
        component = plan.model.component(name)
        with progress.stage(f"{name}: load"):
            source = load_source(component, plan.config.prune)
            pruned = source.pruning is not None
            own, reading = held_against(plan.model.folder, component, pruned=pruned)
        for target in bundle.targets:
            compare = _coreml_parity if target == "coreml" else _tflite_parity
            result = compare(bundle, plan, component, source.network, own, progress)
            components.append(dataclasses.replace(result, checks=(*reading, *result.checks)))
    opened = tuple(open_runtime(bundle, each) for each in _picture_runtimes(bundle, runtime))
    chosen = prompts if prompts is not None else list(bundle.pipeline["advice"]["prompts"])
    needed = {component.name for component in plan.model.components} - {"vae_encoder"}
    drawable = needed <= bundle.components.keys()
    pictures = _pictures(bundle, opened, chosen if drawable else [], progress)
    memory = None
    if pictures and any(each.name == "litert" for each in opened):
        with progress.stage("resident memory, pipelined and with everything loaded"):
            memory = measure_memory(bundle.path, pictures[0].request)
    return ParityReport(bundle, opened, tuple(components), pictures, memory, told)


def _picture_runtimes(bundle: Bundle, runtime: str) -> list[str]:
    """The one asked for, or one for each target of the bundle."""
    if runtime != "auto":
        return [runtime]
    best = {"coreml": best_coreml_runtime(), "tflite": "litert"}
    return [best[target] for target in bundle.targets]


def _coreml_parity(
    bundle: Bundle,
    plan: Plan,
    component: ComponentSpec,
    source: Any,
    own: Reference | None,
    progress: Progress,
) -> ComponentParity:
    from coreml_sd.compress.plan import palettize_module
    from coreml_sd.parity.coreml import component_parity

    name = component.name
    with progress.stage(f"{name}: Core ML, solve again and compare"):
        mobile = mobile_form(component.form, source, mobile_options(plan))
        palettization = palettize_module(mobile, plan.palettes) if plan.palettes else None
        paths = bundle.files(name)
        result = component_parity(component, Reference(source), mobile, palettization, paths, own)
    if len(paths) == 1:
        return result
    with progress.stage(f"{name}: chained chunks against the whole"), _folder() as folder:
        whole = Path(folder) / f"{component.file_name}.mlpackage"
        export_whole(plan, component, whole, mobile, palettization)
        check = chained_equals_whole(component.sample_inputs(0), paths, whole)
    return dataclasses.replace(result, checks=(*result.checks, check))


def _tflite_parity(
    bundle: Bundle,
    plan: Plan,
    component: ComponentSpec,
    source: Any,
    own: Reference | None,
    progress: Progress,
) -> ComponentParity:
    from coreml_sd.parity.tflite import component_parity
    from coreml_sd.targets.tflite.rewrites import android_form

    assert plan.android is not None
    name, profile = component.name, plan.android.profile
    with progress.stage(f"{name}: TFLite, compare"):
        network = android_form(component, source, profile).network
        (path,) = bundle.files(name, "tflite")
        quantization = plan.android.quantization_of(name)
        return component_parity(
            component, Reference(source), network, path, quantization, profile.gelu, own=own
        )


def chained_equals_whole(inputs: dict[str, Any], paths: list[Path], whole: Path) -> Check:
    """Chunks run one after another against one file of the same network, in fp16."""
    from coreml_sd.runtimes.chain import Chain
    from coreml_sd.runtimes.mil import MilNetwork

    expected = MilNetwork(whole).run(inputs)
    chained = Chain("chunks", [MilNetwork(path) for path in paths]).run(inputs)
    identical = all(np.array_equal(expected[name], chained[name]) for name in expected)
    worst = min(psnr_db(expected[name], chained[name]) for name in expected)
    return Check("chained chunks against the whole", worst, "dB", float("inf"), identical)


def _pictures(
    bundle: Bundle, runtimes: tuple[Runtime, ...], prompts: list[str], progress: Progress
) -> tuple[PictureRow, ...]:
    advice = bundle.pipeline["advice"]
    drawers = {"torch": Generator(bundle, open_runtime(bundle, "torch"))}
    drawers |= {runtime.name: Generator(bundle, runtime) for runtime in runtimes}
    rows = []
    for seed, prompt in enumerate(prompts):
        request = GenerationRequest(
            prompt,
            steps=advice["steps"],
            guidance=advice["guidance"],
            seed=seed,
            scheduler=default_scheduler(bundle.pipeline).name,
        )
        pixels = {}
        for name, draw in drawers.items():
            with progress.stage(f"{prompt}: {name}") as advance:
                pixels[name] = draw(request, _counting(advance)).pixels
        source = pixels.pop("torch")
        rows.append(PictureRow(request, source, pixels))
    for draw in drawers.values():
        draw.close()  # memory is measured next, in processes that need theirs
    return tuple(rows)


def _counting(advance: Callable[[int, int], None]) -> Callable[[int, int, float], None]:
    return lambda step, of, _seconds: advance(step, of)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="coreml-sd-")
