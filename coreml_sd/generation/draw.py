"""One picture from a bundle in one call, and what a request holds when little is said."""

from __future__ import annotations

import warnings
from pathlib import Path

from coreml_sd.bundle import Bundle, open_bundle
from coreml_sd.generation.generate import GeneratedImage, GenerationRequest, Generator, StepReport
from coreml_sd.runtimes.open_runtime import open_runtime
from coreml_sd.schedulers.own import OwnScheduler, default_scheduler
from coreml_sd.schedulers.schedulers import make_scheduler


def generate(
    prompt: str,
    bundle: Bundle | Path,
    *,
    runtime: str = "auto",
    negative_prompt: str = "",
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    scheduler: str | None = None,
    on_step: StepReport | None = None,
) -> GeneratedImage:
    """Draw one picture from a bundle. The same seed gives the same picture.

    For many pictures open a runtime and a `Generator` once; this frees all networks at the end.

    Args:
        bundle: an open bundle, or its folder, whose every file is then checked.
        runtime: `torch`, `mil`, `coreml` or `litert`; `auto` is the best for the bundle here.
        steps, guidance, scheduler: the model's advice where None. A warning says where the model's
            own scheduler is none of ours and the nearest is taken.
        on_step: called after each step with its number from 1, their count and its seconds.

    Raises:
        UserError: what was asked for cannot be had: no bundle, a damaged one, a runtime that
            cannot run here, a setting out of range.
        CoremlSDError: the networks gave NaN or inf.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    drawn_with = choose_scheduler(opened, scheduler)
    request = request_for(
        opened,
        prompt,
        drawn_with,
        negative_prompt=negative_prompt,
        steps=steps,
        guidance=guidance,
        seed=seed,
    )
    if drawn_with.note:
        warnings.warn(drawn_with.note, stacklevel=2)
    draw = Generator(opened, open_runtime(opened, runtime))
    try:
        return draw(request, on_step)
    finally:
        draw.close()


def choose_scheduler(bundle: Bundle, name: str | None = None) -> OwnScheduler:
    """The scheduler of that name, or the model's own; with a note where that is only the nearest.

    Raises:
        UserError: an unknown name, or one that cannot honour the model's scheduler config.
    """
    chosen = OwnScheduler(name) if name else default_scheduler(bundle.pipeline)
    make_scheduler(chosen.name, bundle.pipeline["scheduler"])  # refused before anything is loaded
    return chosen


def request_for(
    bundle: Bundle,
    prompt: str,
    scheduler: OwnScheduler,
    *,
    negative_prompt: str = "",
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
) -> GenerationRequest:
    """A request whose steps and guidance are the model's advice where they are None.

    Raises:
        UserError: a setting is out of range.
    """
    advice = bundle.pipeline["advice"]
    return GenerationRequest(
        prompt=prompt,
        negative_prompt=negative_prompt,
        steps=steps if steps is not None else advice["steps"],
        guidance=guidance if guidance is not None else advice["guidance"],
        seed=seed,
        scheduler=scheduler.name,
    )
