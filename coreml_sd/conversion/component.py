"""Conversion of one component: its files for every target, proved, and its manifest entry."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coreml_sd.compress.solve_ahead import PalettesAhead
from coreml_sd.compress.source_network import open_source
from coreml_sd.conversion.facts import network_facts
from coreml_sd.conversion.latent_preview import preview_of
from coreml_sd.conversion.plan import Plan
from coreml_sd.errors import CoremlSDError
from coreml_sd.models.component import ComponentSpec
from coreml_sd.processes.memory import collect_garbage, give_back, map_large_blocks
from coreml_sd.progress import Progress
from coreml_sd.targets.coreml.convert import convert_for_coreml
from coreml_sd.targets.tflite.convert import convert_for_tflite

if TYPE_CHECKING:
    from coreml_sd.parity.checks import Check, ComponentParity
    from coreml_sd.parity.reference import Reference

_TARGETS = {"coreml": convert_for_coreml, "tflite": convert_for_tflite}
_ENTRY: dict[str, Any] = {  # in the order of the manifest
    "description": "", "inputs": [], "outputs": [], "files": [], "seams": [], "weights": [],
    "source_bytes": 0, "parity": {},
}  # fmt: skip


def convert_component(
    plan: Plan,
    component: ComponentSpec,
    staging: Path,
    verify: bool,
    progress: Progress,
    early: PalettesAhead | None = None,
) -> dict[str, Any]:
    """Write the files of one component for every target; returns its manifest entry, and beside it
    the `seconds` that it took."""
    started = time.perf_counter()
    collect_garbage()  # of the component before
    if verify or "tflite" in plan.config.targets:  # networks are run, or weights rewritten
        map_large_blocks()
    with progress.stage(f"{component.name}: load"):
        source = open_source(component, plan.config.prune, early=early)
    entry = {**_ENTRY, "files": [], "parity": {}, **network_facts(component, source)}
    if source.rescaling:
        progress.note(f"{component.name}: {source.rescaling.sentence}")
    if component.name == "vae_decoder":
        with progress.stage(f"{component.name}: preview"):
            # It runs the network; what is loaded for that is gone again when it is done.
            # What a rescaled half computes is what it was.
            vae = source.network if source.in_memory else component.load()
            entry["preview"] = preview_of(plan.model, vae).to_json()
            del vae
            give_back()
    own: Reference | None = None
    reading: tuple[Check, ...] = ()
    if verify:
        from coreml_sd.parity.diffusers_source import held_against

        folder, pruned = plan.model.folder, source.pruning is not None
        own, reading = held_against(folder, component, pruned=pruned)
    for target in plan.config.targets:
        part = _TARGETS[target](plan, component, source, staging, verify, progress, own)
        give_back()
        entry["files"] += part.pop("files")
        if verify:
            result = part.pop("parity")
            entry["parity"][target] = passed(
                dataclasses.replace(result, checks=(*reading, *result.checks))
            )
        entry |= part
    entry["seconds"] = round(time.perf_counter() - started, 2)
    return entry


def passed(result: ComponentParity) -> dict[str, Any]:
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
    facts: dict[str, Any] = result.to_json()
    return facts
