"""Pictures of a bundle beside those of its source."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from coreml_sd.bundle import Bundle
from coreml_sd.denoising.own import default_scheduler
from coreml_sd.generate import GenerationRequest, Generator
from coreml_sd.models.tokenizer_files import write_tokenizer_files
from coreml_sd.plan import Plan
from coreml_sd.progress import Progress
from coreml_sd.report.parity_report import PictureRow
from coreml_sd.runtimes.open_runtime import Runtime, open_runtime


def draw_pictures(
    plan: Plan,
    bundle: Bundle,
    runtimes: tuple[Runtime, ...],
    prompts: list[str],
    progress: Progress,
) -> tuple[PictureRow, ...]:
    """Each prompt from the source in torch, and from the files on each runtime.

    The source's are drawn by the source's own facts and tokenizer, not by the bundle's.
    """
    if not prompts:
        return ()
    facts = plan.model.facts.to_dict()
    advice = facts["advice"]
    with _source(plan, bundle) as source:
        drawers = {"torch": Generator(source, open_runtime(source, "torch"))}
        drawers |= {runtime.name: Generator(bundle, runtime) for runtime in runtimes}
        rows = []
        for seed, prompt in enumerate(prompts):
            request = GenerationRequest(
                prompt,
                steps=advice["steps"],
                guidance=advice["guidance"],
                seed=seed,
                scheduler=default_scheduler(facts).name,
            )
            pixels = {}
            for name, draw in drawers.items():
                with progress.stage(f"{prompt}: {name}") as advance:
                    pixels[name] = draw(request, _counting(advance)).pixels
            original = pixels.pop("torch")
            rows.append(PictureRow(request, original, pixels))
        for draw in drawers.values():
            draw.close()  # memory is measured next, in processes that need theirs
    return tuple(rows)


@contextlib.contextmanager
def _source(plan: Plan, bundle: Bundle) -> Iterator[Bundle]:
    """The source as if it were a bundle: nothing of it comes from the bundle but the config."""
    with tempfile.TemporaryDirectory(prefix="coreml-sd-") as folder:
        write_tokenizer_files(plan.model.folder, Path(folder))
        manifest = {"config": bundle.manifest["config"], "pipeline": plan.model.facts.to_dict()}
        yield dataclasses.replace(bundle, path=Path(folder), manifest=manifest)


def _counting(advance: Callable[[int, int], None]) -> Callable[[int, int, float], None]:
    return lambda step, of, _seconds: advance(step, of)
