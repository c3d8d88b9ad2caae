"""The parity report of a bundle: what it tells, every component, whole pictures, memory."""

from __future__ import annotations

import dataclasses

from msgspec import to_builtins

from coreml_sd.bundle import Bundle
from coreml_sd.compress.source_network import LoadedSource, load_source
from coreml_sd.config import from_dict
from coreml_sd.conversion.facts import network_facts, rescaling_notes
from coreml_sd.conversion.latent_preview import preview_of
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.errors import UserError
from coreml_sd.manifest.form import NetworkFacts
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.open_model import own_size
from coreml_sd.parity.checks import Check, ComponentParity
from coreml_sd.parity.diffusers_source import diffusers_source, held_against
from coreml_sd.parity.pipeline_checks import pipeline_parity
from coreml_sd.progress import Progress, Silent, Stage
from coreml_sd.report.manifest_checks import manifest_parity, preview_check, unchecked
from coreml_sd.report.memory import measure_memory
from coreml_sd.report.parity_report import ParityReport
from coreml_sd.report.pictures import draw_pictures
from coreml_sd.report.source_bundle import source_bundle
from coreml_sd.runtimes.open_runtime import open_runtime
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.registry import TARGETS, targets
from coreml_sd.targets.subject import Subject


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
    facts: dict[str, NetworkFacts] = {}
    for component in plan.components:
        held, compared = _component(plan, bundle, component, progress)
        facts[component.name] = held
        components += compared
    opened = tuple(open_runtime(bundle, each) for each in _picture_runtimes(bundle, runtime))
    chosen = prompts if prompts is not None else list(plan.model.facts.advice.prompts)
    needed = {each.name for each in plan.model.components if each.role != "latent_encoder"}
    drawable = needed <= bundle.components.keys()
    with source_bundle(plan) as source:
        with progress.stage(Stage("manifest")):
            notes = [*plan.notes, *rescaling_notes(facts)]
            manifest = manifest_parity(plan, bundle, source, notes)
        pictures = draw_pictures(source, bundle, opened, chosen if drawable else [], progress)
    memory = None
    if pictures and any(each.name == "litert" for each in opened):
        with progress.stage(Stage("memory")):
            memory = measure_memory(bundle, pictures[0].request)
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
    with progress.stage(Stage("pipeline")):
        return pipeline_parity(read, bundle.pipeline, bundle.path, own_size(plan.config))


def _component(
    plan: Plan, bundle: Bundle, component: ComponentSpec, progress: Progress
) -> tuple[NetworkFacts, list[ComponentParity]]:
    """Facts of a component, and what was compared for each target of the config."""
    name = component.name
    with progress.stage(Stage("load", name)):
        source = load_source(component, plan.config.prune)
        facts = network_facts(component, source)
        pruned = source.pruning is not None
        own, reading = held_against(plan.model.folder, component, pruned=pruned)
    entry = bundle.components.get(name, {"files": []})
    subject = Subject(plan, component, bundle.path, entry, facts, source.network, own, progress)
    first = reading
    if component.role == "latent_decoder":
        first = (*first, _preview(plan, bundle, source, progress))
    compared = []
    for target in targets(plan.config.targets):
        result = target.compare(subject)
        compared.append(dataclasses.replace(result, checks=(*first, *result.checks)))
        first = reading
    return facts, compared


def _preview(plan: Plan, bundle: Bundle, source: LoadedSource, progress: Progress) -> Check:
    with progress.stage(Stage("preview")):
        expected = to_builtins(preview_of(plan.model, source.network).facts())
    return preview_check(expected, bundle.pipeline.get("preview"))


def _picture_runtimes(bundle: Bundle, runtime: str) -> list[str]:
    """The one asked for, or one for each target of the bundle."""
    if runtime != "auto":
        return [runtime]
    return [TARGETS[target].best_runtime() for target in bundle.targets]
