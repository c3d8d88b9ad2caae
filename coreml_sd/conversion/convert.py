"""Conversion end to end: model -> mobile form -> files of each target -> proof -> bundle."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from msgspec import UNSET, to_builtins

from coreml_sd import __version__
from coreml_sd.bundle import Bundle, new_bundle, open_bundle, write_manifest
from coreml_sd.compress.solve_ahead import KeptPalettes, PalettesAhead, solving_ahead
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.finished import FinishedComponent
from coreml_sd.conversion.parallel import (
    Finished,
    choose_jobs,
    component_ahead,
    share_out,
    working,
)
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.conversion.planned import PlannedConversion, foresee
from coreml_sd.conversion.promised import require_whole
from coreml_sd.conversion.resources import require_disk, warn_of_memory
from coreml_sd.conversion.resume import Checkpoints
from coreml_sd.conversion.run import ConversionRun
from coreml_sd.manifest.form import Tool
from coreml_sd.models.folder.tokenizer_files import write_tokenizer_files
from coreml_sd.progress import Progress, Silent, Stage
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.registry import targets
from coreml_sd.upstream.hidden_imports import import_libraries

_PACKAGES = ("diffusers", "numpy", "torch", "transformers")


def convert(
    config: ConversionConfig,
    destination: Path,
    *,
    overwrite: bool = False,
    verify: bool = True,
    progress: Progress | None = None,
    jobs: int | None = None,
    memory: int | None = None,
    resume: bool = True,
) -> Bundle:
    """Convert a model into a bundle.

    Components are converted beside each other where that pays.

    Args:
        jobs: processes at most; chosen by cores, memory and the size of the model if not given.
        memory: bytes that all processes together may use; what is free if not given.
        resume: go on from the finished components of a run that was interrupted, and keep them
            for the next run if this one is (`coreml_sd.conversion.resume`).

    The bundle appears under `destination` only when it is whole and, with `verify`, after every
    saved file was executed and passed its gates.

    Raises:
        UserError: the user can put it right. CoremlSDError: a gate failed, or a fault of ours.
    """
    planned = foresee(plan_conversion(config), verify=verify, jobs=jobs, memory=memory)
    return convert_planned(
        planned, destination, overwrite=overwrite, progress=progress, resume=resume
    )


def convert_planned(
    planned: PlannedConversion,
    destination: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    resume: bool = True,
) -> Bundle:
    """`convert` of what was planned and predicted already."""
    plan, verify = planned.plan, planned.verify
    progress = progress or Silent()
    for note in plan.notes:
        progress.note(note)
    warn_of_memory(planned.prediction, verify, progress)
    with contextlib.ExitStack() as stack:
        staging = stack.enter_context(new_bundle(destination, overwrite=overwrite))
        run = ConversionRun(plan, staging, verify, progress, planned.jobs, planned.memory)
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        digest = pool.submit(plan.model.folder.digest)
        checkpoints = Checkpoints(plan, destination, verify, digest.result, keep=resume)
        stack.enter_context(checkpoints.kept())
        write_tokenizer_files(plan.model.folder, staging)
        finished, read = _convert_components(run, checkpoints)
        manifest = _manifest(plan, finished, digest.result()) | read
        for target in targets(plan.config.targets):
            manifest |= target.convert_further(plan, staging, verify, progress)
        with progress.stage(Stage("checksums")):
            write_manifest(staging, manifest, checkpoints.sums)
            require_whole(plan, open_bundle(staging, check=False).manifest)
    checkpoints.remove()
    seconds = {name: component.seconds for name, component in finished.items()}
    return dataclasses.replace(open_bundle(destination, check=False), seconds=seconds)


def _convert_components(
    run: ConversionRun, checkpoints: Checkpoints
) -> tuple[dict[str, FinishedComponent], dict[str, Any]]:
    """All components in their order, and, with `verify`, what was held against diffusers'
    pipeline; the first share is worked on here."""
    done = checkpoints.take(run.staging)
    if done:
        run.progress.note(f"{', '.join(done)}: finished by the run that was interrupted")
    require_disk(run.plan, checkpoints.destination, run.staging)
    rest = tuple(each for each in run.plan.components if each.name not in done)
    left = run.only(rest)
    shares = share_out(left.plan, max(1, choose_jobs(left.plan, run.jobs, run.memory)))
    shared = left.on_threads(_threads(len(shares)))

    with (
        _in_background(functools.partial(checkpoints.add, staging=run.staging)) as finished,
        _solving_ahead(left, shares, checkpoints) as ahead,
        working(shared, shares[1:], finished) as processes,
    ):
        # These load torch, which takes seconds: the other processes are at work by then.
        import_libraries()
        from coreml_sd.conversion.component import convert_component
        from coreml_sd.conversion.preflight import preflight

        with run.progress.stage(Stage("look")):
            preflight(left.plan, shares[0])
        read = _read_as_diffusers_does(run) if run.verify else {}
        for component in rest:
            if component.name in shares[0]:
                result = convert_component(shared, component, ahead.get(component.name))
                finished(component.name, result)
                done[component.name] = result
        for process in processes:
            done |= process.finish()
    return {component.name: done[component.name] for component in run.plan.components}, read


def _read_as_diffusers_does(run: ConversionRun) -> dict[str, Any]:
    """Hold what generation will be told against diffusers' own pipeline, where there is one.

    Raises:
        CoremlSDError: they differ.
    """
    from coreml_sd.conversion.component import passed
    from coreml_sd.models.open_model import own_size
    from coreml_sd.parity.diffusers_source import diffusers_source
    from coreml_sd.parity.pipeline_checks import pipeline_parity

    model, config = run.plan.model, run.plan.config
    source = diffusers_source(model.folder)
    if source is None:
        return {}
    with run.progress.stage(Stage("pipeline")):
        result = pipeline_parity(source, model.facts.to_dict(), run.staging, own_size(config))
    return {"source_parity": to_builtins(passed(result))}


@contextlib.contextmanager
def _in_background(work: Callable[[str, FinishedComponent], None]) -> Iterator[Finished]:
    """Gives `work` to a thread of its own, where one call comes after the other: callers, such as
    readers of what a process tells, do not wait. It has ended when the block has."""
    calls = []
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield lambda name, component: calls.append(pool.submit(work, name, component))
    for call in calls:
        call.result()


@contextlib.contextmanager
def _solving_ahead(
    run: ConversionRun, shares: list[list[str]], checkpoints: Checkpoints
) -> Iterator[dict[str, PalettesAhead]]:
    """Solve a component's palettes on the cores that loading libraries leaves idle."""
    plan = run.plan
    component = component_ahead(plan, shares, run.jobs, run.memory)
    files = plan.model.folder.weight_files(component) if component else []
    if component is None or plan.palettes is None or not files:
        yield {}
        return
    kept = checkpoints.palettes(component)
    if kept is not None:
        yield {component: KeptPalettes(kept)}
        return
    threads = max(1, (os.cpu_count() or 1) - len(shares))
    keep = functools.partial(checkpoints.add_palettes, component)
    with solving_ahead(files, plan.palettes, threads, keep) as ahead:
        yield {component: ahead}


def _threads(processes: int) -> int | None:
    return None if processes == 1 else max(1, (os.cpu_count() or 1) // processes)


def _manifest(plan: Plan, finished: Mapping[str, FinishedComponent], digest: str) -> dict[str, Any]:
    from coreml_sd.conversion.facts import model_facts, rescaling_notes

    pipeline = plan.model.facts.to_dict()
    for component in finished.values():
        if component.preview is not UNSET:
            pipeline["preview"] = to_builtins(component.preview)
    entries = {name: component.entry for name, component in finished.items()}
    return {
        "tool": to_builtins(Tool("coreml-sd", __version__, _versions(plan))),
        "model": to_builtins(model_facts(plan, digest)),
        "config": plan.config.to_dict(),
        "notes": [*plan.notes, *rescaling_notes(entries)],
        "pipeline": pipeline,
        "components": to_builtins(entries),
    }


def _versions(plan: Plan) -> dict[str, str]:
    further = [name for target in targets(plan.config.targets) for name in target.packages]
    return {name: importlib.metadata.version(name) for name in (*_PACKAGES, *further)}
