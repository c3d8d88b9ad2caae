"""A conversion as a list of pieces of work, each with its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coreml_sd.costs.network_size import NetworkSize
from coreml_sd.progress import Stage
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.registry import targets

Sizes = dict[str, float]  # measure -> amount


@dataclass(frozen=True)
class Work:
    """One piece: a component (or "" for the whole), its kind, and its size in several measures.

    Measures: `each` (1), `first` (1 the first time a process does this kind: libraries are
    loaded), `android` (1 where these are more, for TFLite), `layers`, `parameters` (1e9),
    `palettes` (1e9 parameters that get palettes), `unpacked` (1e9 parameters that are int8 in a
    .tflite and fp32 while it runs), `macs` (1e12) and `activation` (1e9 values).
    """

    component: str
    kind: str
    size: Sizes


def share_work(
    plan: Plan, sizes: dict[str, NetworkSize], names: Sequence[str], verify: bool
) -> list[Work]:
    """What one process does for its components, in order."""
    work, known = [Work("", "start", {"each": 1.0})], set[str]()
    for component in names:
        for kind in _kinds(plan, component, verify):
            size = measures(plan, component, sizes[component], first=kind not in known)
            work.append(Work(component, kind, size))
            known.add(kind)
    return work


def final_work(plan: Plan, sizes: dict[str, NetworkSize]) -> list[Work]:
    """What is left when all components are done."""
    total = sum(size.parameters for size in sizes.values())
    work = [Work("", "finish", {"each": 1.0, "parameters": total / 1e9})]
    if any(target.further_files(plan) for target in targets(plan.config.targets)):
        work.insert(0, Work("scheduler step", "step", {"each": 1.0}))
    return work


def kind_of_stage(stage: Stage) -> str:
    """The kind of work that a stage of a conversion belongs to."""
    return f"{stage.target}-verify" if stage.kind == "verify" else stage.target or stage.kind


def measures(plan: Plan, component: str, size: NetworkSize, *, first: bool) -> Sizes:
    """The size of a component in every measure."""
    held = size.parameters / 1e9
    chosen = targets(plan.config.targets)
    int8 = any(target.bytes_per_weight(plan, component) == 1 for target in chosen)
    return {
        "each": 1.0,
        "first": float(first),
        "android": float(first and any(target.holds_weights for target in chosen)),
        "layers": float(len(size.layers)),
        "parameters": held,
        "palettes": held if plan.palettes else 0.0,
        "unpacked": held if int8 else 0.0,
        "macs": size.macs / 1e12,
        "activation": size.activation / 1e9,
    }


def _kinds(plan: Plan, component: str, verify: bool) -> list[str]:
    decodes = plan.model.component(component).role == "latent_decoder"
    kinds = ["load", *(["preview"] if decodes else [])]
    for target in targets(plan.config.targets):
        # With a proof what holds weights writes them in fp32 first.
        kinds.append(f"{target.name}-fp32" if verify and target.holds_weights else target.name)
        kinds += [f"{target.name}-verify"] if verify else []
    return kinds
