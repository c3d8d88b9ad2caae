"""Conversion of one component: its files for every target, proved, and its manifest entry."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from coreml_sd.compress.solve_ahead import PalettesAhead
from coreml_sd.compress.source_network import OpenedSource, open_source
from coreml_sd.conversion.facts import network_facts
from coreml_sd.conversion.finished import FinishedComponent, component_entry
from coreml_sd.conversion.latent_preview import preview_of
from coreml_sd.conversion.run import ConversionRun
from coreml_sd.errors import CoremlSDError
from coreml_sd.manifest.form import Preview, TargetFacts, ToldParity
from coreml_sd.models.component import ComponentSpec
from coreml_sd.processes.memory import collect_garbage, give_back, map_large_blocks
from coreml_sd.progress import Stage
from coreml_sd.targets.job import ConversionJob
from coreml_sd.targets.registry import targets

if TYPE_CHECKING:
    from coreml_sd.parity.checks import Check, ComponentParity
    from coreml_sd.parity.reference import Reference


def convert_component(
    run: ConversionRun, component: ComponentSpec, ahead: PalettesAhead | None = None
) -> FinishedComponent:
    """Write the files of one component for every target, and prove them.

    Raises:
        CoremlSDError: a gate was not reached.
    """
    started = time.perf_counter()
    collect_garbage()  # of the component before
    plan, progress = run.plan, run.progress
    chosen = targets(plan.config.targets)
    if run.verify or any(target.holds_weights for target in chosen):
        map_large_blocks()
    with progress.stage(Stage("load", component.name)):
        source = open_source(component, plan.config.prune, ahead=ahead)
    facts = network_facts(component, source)
    if source.rescaling:
        progress.note(f"{component.name}: {source.rescaling.sentence}")
    preview = _preview(run, component, source)
    own: Reference | None = None
    reading: tuple[Check, ...] = ()
    if run.verify:
        from coreml_sd.parity.diffusers_source import held_against

        folder, pruned = plan.model.folder, source.pruning is not None
        own, reading = held_against(folder, component, pruned=pruned)
    job = ConversionJob(plan, component, source, run.staging, run.verify, progress, own)
    parts: list[TargetFacts] = []
    parity: dict[str, ToldParity] = {}
    for target in chosen:
        converted = target.convert(job)
        give_back()
        parts.append(converted.facts)
        if converted.parity is not None:
            checks = (*reading, *converted.parity.checks)
            parity[target.name] = passed(dataclasses.replace(converted.parity, checks=checks))
    entry = component_entry(facts, parts, parity)
    return FinishedComponent(entry, round(time.perf_counter() - started, 2), preview)


def _preview(
    run: ConversionRun, component: ComponentSpec, source: OpenedSource
) -> Preview | UnsetType:
    if component.role != "latent_decoder":
        return UNSET
    with run.progress.stage(Stage("preview", component.name)):
        # It runs the network; what is loaded for that is gone again when it is done. What a
        # rescaled half computes is what it was.
        vae = source.network if source.in_memory else component.load()
        preview = preview_of(run.plan.model, vae).facts()
        del vae
        give_back()
    return preview


def passed(result: ComponentParity) -> ToldParity:
    """The checks of a result for the manifest.

    Raises:
        CoremlSDError: a gate was not reached.
    """
    failed = [check for check in result.checks if not check.passed]
    if failed:
        details = "; ".join(check.detail for check in failed if check.detail)
        where = f" ({details})" if details else ""
        raise CoremlSDError(
            f"{result.component}: {failed[0].shortfall} for {result.target}{where}; the bundle is "
            "not written"
        )
    return msgspec.convert(result.to_json(), ToldParity)
