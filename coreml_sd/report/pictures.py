"""Pictures of a bundle beside those of its source."""

from __future__ import annotations

from collections.abc import Callable

from coreml_sd.bundle import Bundle
from coreml_sd.generation.generate import GenerationRequest, Generator
from coreml_sd.progress import Progress, Stage
from coreml_sd.report.parity_report import PictureRow
from coreml_sd.runtimes.open_runtime import Runtime, open_runtime
from coreml_sd.schedulers.own import default_scheduler


def draw_pictures(
    source: Bundle,
    bundle: Bundle,
    runtimes: tuple[Runtime, ...],
    prompts: list[str],
    progress: Progress,
) -> tuple[PictureRow, ...]:
    """Each prompt from the source in torch, and from the files on each runtime; the first one also
    in the steps of each denoiser for few steps.

    The source's are drawn by the source's own facts and tokenizer, not by the bundle's.

    Args:
        source: `source_bundle`.
    """
    if not prompts:
        return ()
    advice = source.pipeline["advice"]
    drawers = {"torch": Generator(source, open_runtime(source, "torch"))}
    drawers |= {runtime.name: Generator(bundle, runtime) for runtime in runtimes}
    drawn = [(seed, prompt, advice["steps"]) for seed, prompt in enumerate(prompts)]
    further = {few["steps"] for few in source.pipeline.get("few_steps", [])} - {advice["steps"]}
    drawn += [(0, prompts[0], steps) for steps in sorted(further, reverse=True)]
    rows = []
    for seed, prompt, steps in drawn:
        request = GenerationRequest(
            prompt,
            steps=steps,
            guidance=advice["guidance"],
            seed=seed,
            scheduler=default_scheduler(source.pipeline).name,
        )
        pixels = {}
        for name, draw in drawers.items():
            with progress.stage(Stage("draw", detail=f"{prompt}: {name}")) as advance:
                pixels[name] = draw(request, _counting(advance)).pixels
        original = pixels.pop("torch")
        rows.append(PictureRow(request, original, pixels))
    for draw in drawers.values():
        draw.close()  # memory is measured next, in processes that need theirs
    return tuple(rows)


def _counting(advance: Callable[[int, int], None]) -> Callable[[int, int, float], None]:
    return lambda step, of, _seconds: advance(step, of)
