"""What the manifest says beside its files and proofs: from the source and the config alone.

A conversion writes these facts, and `parity` works them out again and compares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict

from coreml_sd.compress.source_network import LoadedSource, OpenedSource
from coreml_sd.manifest.form import Component, Model, NetworkFacts, Pruning, Rescaling, Tensor
from coreml_sd.mobile import mobile_form, vae_range
from coreml_sd.models.component import ComponentSpec, TensorSpec
from coreml_sd.targets.plan import Plan


def model_facts(plan: Plan, digest: str) -> Model:
    """Which model it is; `digest` is of its folder."""
    licence, author = plan.model.folder.licence_and_author()
    return Model(
        name=plan.model.source.name,
        family=plan.model.facts.family,
        revision=plan.model.source.revision,
        sha256=digest,
        license=licence,
        author=author,
        config_digest=plan.config.digest,
    )


def rescaling_notes(facts: Mapping[str, NetworkFacts | Component]) -> list[str]:
    """What the notes say of components that were rescaled; `facts` by their names."""
    return [
        f"{name}: {vae_range.Rescaling(**asdict(entry.rescaling)).sentence}"
        for name, entry in facts.items()
        if entry.rescaling is not UNSET
    ]


def network_facts(component: ComponentSpec, source: OpenedSource | LoadedSource) -> NetworkFacts:
    """What is the same for every target."""
    facts = NetworkFacts(
        description=component.description,
        inputs=[_tensor(spec) for spec in component.inputs],
        outputs=[_tensor(spec) for spec in component.outputs],
        source_bytes=sum(2 * p.numel() for p in _used_parameters(component, source.network)),
    )
    if source.pruning:
        facts.pruning = msgspec.convert(source.pruning, Pruning)
    if source.rescaling:
        facts.rescaling = msgspec.convert(dataclasses.asdict(source.rescaling), Rescaling)
    return facts


def _tensor(spec: TensorSpec) -> Tensor:
    return msgspec.convert(dataclasses.asdict(spec), Tensor)


def _used_parameters(component: ComponentSpec, network: Any) -> list[Any]:
    """Parameters of the mobile form: half a VAE's belong to the other component."""
    from coreml_sd.upstream.torch_tensors import storage_key

    unique = {storage_key(p): p for p in mobile_form(component.form, network).parameters()}
    return list(unique.values())
