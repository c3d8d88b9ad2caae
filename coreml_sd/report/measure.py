"""The parity report of a bundle: what it tells, every component, whole pictures, memory."""

from __future__ import annotations

import dataclasses
from typing import Any

from coreml_sd.bundle import Bundle
from coreml_sd.compress.source_network import LoadedSource, load_source
from coreml_sd.config import from_dict
from coreml_sd.conversion.facts import network_facts, rescaling_notes
from coreml_sd.conversion.latent_preview import preview_of
from coreml_sd.conversion.plan import Plan, plan_conversion
from coreml_sd.errors import UserError
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.open_model import own_size
from coreml_sd.parity.checks import Check, ComponentParity
from coreml_sd.parity.diffusers_source import diffusers_source, held_against
from coreml_sd.parity.pipeline_checks import pipeline_parity
from coreml_sd.progress import Progress, Silent
from coreml_sd.report.component_checks import COMPARE, Subject
from coreml_sd.report.manifest_checks import manifest_parity, preview_check, unchecked
from coreml_sd.report.memory import measure_memory
from coreml_sd.report.parity_report import ParityReport
from coreml_sd.report.pictures import draw_pictures
from coreml_sd.report.source_bundle import source_bundle
from coreml_sd.runtimes.open_runtime import best_coreml_runtime, open_runtime


def measure(
    bundle: Bundle,
    *,
    prompts: list[str] | None = None,
    runtime: str = "auto",
    progress: Progress | None = None,
) -> ParityReport:
    """Hold a bundle against its source model.

    What is compared is worked out from the source and the config: what the bundle lacks fails.

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
    pipeline = _pipeline(plan, bundle, progress)
    components: list[ComponentParity] = []
    facts: dict[str, dict[str, Any]] = {}
    for component in plan.components:
        held, compared = _component(plan, bundle, component, progress)
        facts[component.name] = held
        components += compared
    opened = tuple(open_runtime(bundle, each) for each in _picture_runtimes(bundle, runtime))
    chosen = prompts if prompts is not None else list(plan.model.facts.advice.prompts)
    needed = {component.name for component in plan.model.components} - {"vae_encoder"}
    drawable = needed <= bundle.components.keys()
    with source_bundle(plan) as source:
        with progress.stage("what the bundle tells, against the source and the config"):
            notes = [*plan.notes, *rescaling_notes(facts)]
            manifest = manifest_parity(plan, bundle, source, notes)
        pictures = draw_pictures(source, bundle, opened, chosen if drawable else [], progress)
    memory = None
    if pictures and any(each.name == "litert" for each in opened):
        with progress.stage("resident memory, pipelined and with everything loaded"):
            memory = measure_memory(bundle.path, pictures[0].request)
    return ParityReport(
        bundle,
        opened,
        tuple(components),
        pictures,
        memory,
        pipeline,
        manifest,
        unchecked(plan, bundle),
    )


def _pipeline(plan: Plan, bundle: Bundle, progress: Progress) -> ComponentParity | None:
    read = diffusers_source(plan.model.folder)
    if read is None:
        return None
    with progress.stage("tokens, scheduler and sizes against diffusers' pipeline"):
        return pipeline_parity(read, bundle.pipeline, bundle.path, own_size(plan.config))


def _component(
    plan: Plan, bundle: Bundle, component: ComponentSpec, progress: Progress
) -> tuple[dict[str, Any], list[ComponentParity]]:
    """Facts of a component, and what was compared for each target of the config."""
    name = component.name
    with progress.stage(f"{name}: load"):
        source = load_source(component, plan.config.prune)
        facts = network_facts(component, source)
        pruned = source.pruning is not None
        own, reading = held_against(plan.model.folder, component, pruned=pruned)
    entry = bundle.components.get(name, {"files": []})
    subject = Subject(plan, component, bundle.path, entry, facts, source.network, own)
    first = reading
    if name == "vae_decoder":
        first = (*first, _preview(plan, bundle, source, progress))
    compared = []
    for target in plan.config.targets:
        result = COMPARE[target](subject, progress)
        compared.append(dataclasses.replace(result, checks=(*first, *result.checks)))
        first = reading
    return facts, compared


def _preview(plan: Plan, bundle: Bundle, source: LoadedSource, progress: Progress) -> Check:
    with progress.stage("vae_decoder: preview"):
        expected = preview_of(plan.model, source.network).to_json()
    return preview_check(expected, bundle.pipeline.get("preview"))


def _picture_runtimes(bundle: Bundle, runtime: str) -> list[str]:
    """The one asked for, or one for each target of the bundle."""
    if runtime != "auto":
        return [runtime]
    best = {"coreml": best_coreml_runtime(), "tflite": "litert"}
    return [best[target] for target in bundle.targets]
