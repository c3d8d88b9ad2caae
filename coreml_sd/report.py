"""The parity report of a bundle: every component, chained chunks, whole pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd import __version__
from coreml_sd.bundle import Bundle
from coreml_sd.config import from_dict
from coreml_sd.convert_coreml import export_whole
from coreml_sd.errors import UserError
from coreml_sd.generate import GenerationRequest, Generator
from coreml_sd.metrics import psnr_db
from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.parity.checks import Check, ComponentParity
from coreml_sd.plan import Plan, plan_conversion
from coreml_sd.progress import Progress, Silent
from coreml_sd.runtimes.open_runtime import Runtime, open_runtime

AMPLIFICATION = 8  # of the shown difference


@dataclass(frozen=True)
class PicturePair:
    """One prompt drawn from the source and from the files, `(H, W, 3)` uint8 each."""

    request: GenerationRequest
    source: NDArray[np.uint8]
    converted: NDArray[np.uint8]

    @property
    def psnr(self) -> float:
        """20 log10(255 / rmse) over the pixels, dB."""
        return psnr_db(
            np.append(self.source.astype(np.float64).ravel(), 255.0),
            np.append(self.converted.astype(np.float64).ravel(), 255.0),
        )

    @property
    def difference(self) -> NDArray[np.uint8]:
        """Absolute difference, amplified."""
        gap = np.abs(self.source.astype(np.int16) - self.converted.astype(np.int16))
        return np.clip(gap * AMPLIFICATION, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class ParityReport:
    """Everything compared for one bundle."""

    bundle: Bundle
    runtime: Runtime
    components: tuple[ComponentParity, ...]
    pictures: tuple[PicturePair, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate was reached."""
        return all(component.passed for component in self.components)

    def to_json(self) -> dict[str, Any]:
        """Machine-readable form."""
        return {
            "software": f"coreml-sd {__version__}",
            "bundle": str(self.bundle.path),
            "model": self.bundle.manifest["model"],
            "passed": self.passed,
            "runtime": self.runtime.name,
            "label": self.runtime.label,
            "components": {entry.component: entry.to_json() for entry in self.components},
            "pictures": [
                {
                    "prompt": pair.request.prompt,
                    "seed": pair.request.seed,
                    "steps": pair.request.steps,
                    "scheduler": pair.request.scheduler,
                    "psnr_db": round(pair.psnr, 2) if np.isfinite(pair.psnr) else "identical",
                }
                for pair in self.pictures
            ],
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
    components = tuple(_component(bundle, plan, name, progress) for name in bundle.components)
    opened = open_runtime(bundle, runtime)
    chosen = prompts if prompts is not None else list(bundle.pipeline["advice"]["prompts"])
    drawable = {"text_encoder", "unet", "vae_decoder"} <= bundle.components.keys()
    pictures = _pictures(bundle, opened, chosen if drawable else [], progress)
    return ParityReport(bundle, opened, components, pictures)


def _component(bundle: Bundle, plan: Plan, name: str, progress: Progress) -> ComponentParity:
    from coreml_sd.compress.plan import palettize_module

    component = plan.model.component(name)
    with progress.stage(f"{name}: solve again and compare"):
        source = component.load()
        options = MobileOptions(attention=plan.config.attention)  # type: ignore[arg-type]
        mobile = mobile_form(name, source, options)
        palettization = palettize_module(mobile, plan.palettes) if plan.palettes else None
        paths = bundle.files(name)
        result = component_parity(component, source, mobile, palettization, paths)
    if len(paths) == 1:
        return result
    with progress.stage(f"{name}: chained chunks against the whole"), _folder() as folder:
        whole = Path(folder) / f"{component.file_name}.mlpackage"
        export_whole(plan, component, whole, mobile, palettization)
        check = chained_equals_whole(component.sample_inputs(0), paths, whole)
    return ComponentParity(result.component, result.label, (*result.checks, check))


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
    bundle: Bundle, converted: Runtime, prompts: list[str], progress: Progress
) -> tuple[PicturePair, ...]:
    advice = bundle.pipeline["advice"]
    draw_source = Generator(bundle, open_runtime(bundle, "torch"))
    draw_converted = Generator(bundle, converted)
    pairs = []
    for seed, prompt in enumerate(prompts):
        request = GenerationRequest(
            prompt, steps=advice["steps"], guidance=advice["guidance"], seed=seed
        )
        pixels = []
        for label, draw in (("torch", draw_source), (converted.name, draw_converted)):
            with progress.stage(f"{prompt}: {label}") as advance:
                pixels.append(draw(request, _counting(advance)).pixels)
        pairs.append(PicturePair(request, *pixels))
    return tuple(pairs)


def _counting(advance: Callable[[int, int], None]) -> Callable[[int, int, float], None]:
    return lambda step, of, _seconds: advance(step, of)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="coreml-sd-")
