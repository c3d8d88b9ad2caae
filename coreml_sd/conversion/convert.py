"""Conversion end to end: model -> mobile form -> files of each target -> proof -> bundle."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from coreml_sd import __version__
from coreml_sd.bundle import Bundle, new_bundle, open_bundle, write_manifest
from coreml_sd.compress.solve_ahead import KeptPalettes, PalettesAhead, solving_early
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.parallel import Finished, choose_jobs, early_component, share_out, working
from coreml_sd.conversion.plan import Plan, plan_conversion
from coreml_sd.conversion.promised import has_scheduler_step, require_whole
from coreml_sd.conversion.resources import require_room, warn_of_memory
from coreml_sd.conversion.resume import Parts
from coreml_sd.models.folder.tokenizer_files import write_tokenizer_files
from coreml_sd.progress import Progress, Silent
from coreml_sd.targets.tflite.convert_scheduler_step import convert_scheduler_step
from coreml_sd.upstream.hidden_imports import import_lean
from coreml_sd.upstream.table import check_environment

_PACKAGES = ("diffusers", "numpy", "torch", "transformers")
_TARGET_PACKAGES = {
    "coreml": ("coremltools",),
    "tflite": ("litert-torch", "litert-converter", "ai-edge-quantizer", "ai-edge-litert"),
}


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

    Components for Core ML are converted beside each other where that pays.

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
    check_environment()
    progress = progress or Silent()
    plan = plan_conversion(config)
    for note in plan.notes:
        progress.note(note)
    warn_of_memory(plan, verify, progress, jobs, memory)
    with contextlib.ExitStack() as stack:
        staging = stack.enter_context(new_bundle(destination, overwrite=overwrite))
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        digest = pool.submit(plan.model.folder.digest)
        parts = Parts(plan, destination, verify, digest.result, keep=resume)
        stack.enter_context(parts.kept())
        write_tokenizer_files(plan.model.folder, staging)
        entries, read = _convert_components(plan, parts, staging, verify, progress, jobs, memory)
        seconds = {name: entry.pop("seconds") for name, entry in entries.items()}
        manifest = _manifest(plan, entries, digest.result()) | read
        if has_scheduler_step(plan):
            unet = next(each for each in plan.components if each.name == "unet")
            manifest["scheduler_step"] = convert_scheduler_step(unet, staging, verify, progress)
        with progress.stage("checksums"):
            write_manifest(staging, manifest, parts.sums)
            require_whole(plan, open_bundle(staging, check=False).manifest)
    parts.remove()
    return dataclasses.replace(open_bundle(destination, check=False), seconds=seconds)


def _convert_components(
    plan: Plan,
    parts: Parts,
    staging: Path,
    verify: bool,
    progress: Progress,
    jobs: int | None,
    memory: int | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Manifest entries of all components in their order, and, with `verify`, of what was held
    against diffusers' pipeline; the first share is worked on here."""
    done = parts.take(staging)
    if done:
        progress.note(f"{', '.join(done)}: finished by the run that was interrupted")
    require_room(plan, parts.destination, staging)
    rest = tuple(component for component in plan.components if component.name not in done)
    left = dataclasses.replace(plan, components=rest)
    parallel = plan.config.targets == ["coreml"]  # the other converter takes all there is
    shares = share_out(left, max(1, choose_jobs(left, jobs if parallel else 1, memory)))
    helped = dataclasses.replace(left, threads=_threads(len(shares)))

    with (
        _in_background(functools.partial(parts.add, staging=staging)) as finished,
        _solving_early(left, early_component(left, shares, jobs, memory), parts, shares) as early,
        working(helped, shares[1:], staging, verify, progress, finished) as workers,
    ):
        # These load torch, which takes seconds: the other processes are at work by then.
        import_lean()
        from coreml_sd.conversion.component import convert_component
        from coreml_sd.conversion.preflight import preflight

        with progress.stage("look at the model's files"):
            preflight(left, shares[0])
        read = _read_as_diffusers_does(plan, staging, progress) if verify else {}
        for component in rest:
            if component.name in shares[0]:
                ahead = early.get(component.name)
                entry = convert_component(helped, component, staging, verify, progress, ahead)
                finished(component.name, entry)
                done[component.name] = entry
        for worker in workers:
            done |= worker.finish()
    return {component.name: done[component.name] for component in plan.components}, read


def _read_as_diffusers_does(plan: Plan, staging: Path, progress: Progress) -> dict[str, Any]:
    """Hold what generation will be told against diffusers' own pipeline, where there is one.

    Raises:
        CoremlSDError: they differ.
    """
    from coreml_sd.conversion.component import passed
    from coreml_sd.models.open_model import own_size
    from coreml_sd.parity.diffusers_source import diffusers_source
    from coreml_sd.parity.pipeline_checks import pipeline_parity

    source = diffusers_source(plan.model.folder)
    if source is None:
        return {}
    with progress.stage("tokens, scheduler and sizes against diffusers' pipeline"):
        facts = plan.model.facts.to_dict()
        result = pipeline_parity(source, facts, staging, own_size(plan.config))
    return {"source_parity": passed(result)}


@contextlib.contextmanager
def _in_background(work: Callable[[str, dict[str, Any]], None]) -> Iterator[Finished]:
    """Gives `work` to a thread of its own, where one call comes after the other: callers, such as
    readers of what a worker tells, do not wait. It has ended when the block has."""
    calls = []
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield lambda name, entry: calls.append(pool.submit(work, name, entry))
    for call in calls:
        call.result()


@contextlib.contextmanager
def _solving_early(
    plan: Plan, component: str | None, parts: Parts, shares: list[list[str]]
) -> Iterator[dict[str, PalettesAhead]]:
    """Solve a component's palettes on the cores that loading libraries leaves idle."""
    files = plan.model.folder.weight_files(component) if component else []
    if component is None or plan.palettes is None or not files:
        yield {}
        return
    kept = parts.palettes(component)
    if kept is not None:
        yield {component: KeptPalettes(kept)}
        return
    workers = max(1, (os.cpu_count() or 1) - len(shares))
    keep = functools.partial(parts.add_palettes, component)
    with solving_early(files, plan.palettes, workers, keep) as early:
        yield {component: early}


def _threads(processes: int) -> int | None:
    return None if processes == 1 else max(1, (os.cpu_count() or 1) // processes)


def _manifest(plan: Plan, entries: dict[str, dict[str, Any]], digest: str) -> dict[str, Any]:
    from coreml_sd.conversion.facts import model_facts, rescaling_notes

    pipeline = plan.model.facts.to_dict()
    if "vae_decoder" in entries:
        pipeline["preview"] = entries["vae_decoder"].pop("preview")
    return {
        "tool": {
            "name": "coreml-sd",
            "version": __version__,
            "packages": {
                name: importlib.metadata.version(name)
                for name in (*_PACKAGES, *_target_packages(plan))
            },
        },
        "model": model_facts(plan, digest),
        "config": plan.config.to_dict(),
        "notes": [*plan.notes, *rescaling_notes(entries)],
        "pipeline": pipeline,
        "components": entries,
    }


def _target_packages(plan: Plan) -> list[str]:
    return [name for target in plan.config.targets for name in _TARGET_PACKAGES[target]]
