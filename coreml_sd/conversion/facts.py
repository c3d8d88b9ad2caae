"""What the manifest says beside its proofs: from the source, the config and the files alone.

A conversion writes these facts, and `parity` works them out again and compares.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coreml_sd.compress.choose import stored_bytes
from coreml_sd.compress.palettization import Palettization
from coreml_sd.compress.source_network import LoadedSource, OpenedSource
from coreml_sd.compress.supported import PaletteSpec
from coreml_sd.conversion.plan import Plan
from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.mobile.layer_weights import layer_weights
from coreml_sd.mobile.serialized_conv import SplitRecord
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.mobile.vae_range import Rescaling
from coreml_sd.models.component import ComponentSpec
from coreml_sd.schedulers.linear_step import FILE_NAME, GUIDED, LATENTS, WEIGHT_NAMES
from coreml_sd.targets.coreml.chunks import CutPlan, Shapes, plan_cuts

if TYPE_CHECKING:
    from coreml_sd.runtimes.mil import MilPackage


def model_facts(plan: Plan, digest: str) -> dict[str, Any]:
    """Which model it is; `digest` is of its folder."""
    licence, author = plan.model.folder.licence_and_author()
    return {
        "name": plan.model.source.name,
        "family": plan.model.facts.family,
        "revision": plan.model.source.revision,
        "sha256": digest,
        "license": licence,
        "author": author,
        "config_digest": plan.config.digest,
    }


def scheduler_step_facts(unet: ComponentSpec) -> dict[str, Any]:
    """The step between two runs of a UNet for TFLite."""
    from coreml_sd.targets.tflite.scheduler_step import OUTPUTS, scheduler_step_inputs

    return {
        "path": FILE_NAME,
        "target": "tflite",
        "inputs": [spec.name for spec in scheduler_step_inputs(unet)],
        "outputs": list(OUTPUTS),
        "weights": list(WEIGHT_NAMES),
        "memory": {"latents": LATENTS, "guided": GUIDED},
    }


def rescaling_notes(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the notes say of components that were rescaled; `facts` by their names."""
    return [
        f"{name}: {Rescaling(**entry['rescaling']).sentence}"
        for name, entry in facts.items()
        if "rescaling" in entry
    ]


def network_facts(component: ComponentSpec, source: OpenedSource | LoadedSource) -> dict[str, Any]:
    """What is the same for every target."""
    facts: dict[str, Any] = {
        "description": component.description,
        "inputs": [dataclasses.asdict(spec) for spec in component.inputs],
        "outputs": [dataclasses.asdict(spec) for spec in component.outputs],
        "source_bytes": sum(2 * p.numel() for p in _used_parameters(component, source.network)),
    }
    if source.pruning:
        facts["pruning"] = source.pruning
    if source.rescaling:
        facts["rescaling"] = dataclasses.asdict(source.rescaling)
    return facts


def _used_parameters(component: ComponentSpec, network: Any) -> list[Any]:
    """Parameters of the mobile form: half a VAE's belong to the other component."""
    from coreml_sd.upstream.torch_tensors import storage_key

    unique = {storage_key(p): p for p in mobile_form(component.form, network).parameters()}
    return list(unique.values())


def mobile_options(plan: Plan) -> MobileOptions:
    """The options of the mobile form that the Core ML files are made from."""
    return MobileOptions(attention=plan.config.attention)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Packages:
    """How a component becomes Core ML packages: where it is cut, the pieces by the names of their
    packages, in running order, and the shapes of named tensors."""

    cuts: CutPlan
    pieces: dict[str, StepSequence]
    shapes: Shapes


def packages_of(plan: Plan, component: ComponentSpec, mobile: StepSequence) -> Packages:
    """Decide where a component is cut."""
    from coreml_sd.mobile.measure import tensor_shapes

    @functools.cache
    def shapes() -> dict[str, tuple[int, ...]]:
        return tensor_shapes(mobile, component.inputs)

    chunks = plan.config.chunks if component.name == "unet" else "1"
    cuts = plan_cuts(mobile, shapes, chunks, _stored_step_bytes(mobile, plan.palettes))
    pieces = mobile.cut(cuts.boundaries)
    named = {
        f"{component.file_name}{f'Chunk{number}' if len(pieces) > 1 else ''}.mlpackage": piece
        for number, piece in enumerate(pieces, start=1)
    }
    return Packages(cuts, named, shapes)


def coreml_facts(
    packages: Packages, mobile: StepSequence, decided: Palettization | None
) -> dict[str, Any]:
    """Cuts and palettes."""
    cuts = packages.cuts
    return {
        "seams": [
            {"tensors": list(mobile.seam(cut)), "bytes": size}
            for cut, size in zip(cuts.boundaries, cuts.seam_bytes, strict=True)
        ],
        "weights": _weight_entries(decided),
    }


def package_facts(package: MilPackage, piece: StepSequence) -> dict[str, Any]:
    """One .mlpackage."""
    return _file_facts(package.path, "coreml", piece) | {"weight_bytes": package.weight_bytes()}


def tflite_facts(
    path: Path, network: StepSequence, splits: Sequence[SplitRecord], quantization: str
) -> dict[str, Any]:
    """The .tflite of a component, its operations and the convolutions that were split."""
    from coreml_sd.runtimes.litert.file import TFLiteFile

    written = TFLiteFile(path)
    facts = {"weight_bytes": written.weight_bytes(), "quantization": quantization}
    return {
        "files": [_file_facts(path, "tflite", network) | facts],
        "ops": written.op_counts(),
        "splits": [dataclasses.asdict(split) for split in splits],
    }


def _file_facts(path: Path, target: str, network: StepSequence) -> dict[str, Any]:
    names = {"inputs": list(network.inputs), "outputs": list(network.outputs)}
    return {"path": path.name, "target": target, **names}


def _stored_step_bytes(mobile: StepSequence, palettes: PaletteSpec | None) -> list[int]:
    """Weight bytes of each step as the file will hold them."""
    totals = list(mobile.step_bytes())
    for index, step in enumerate(mobile.steps):
        for weight in layer_weights(step.module).values():
            shape = tuple(weight.shape)
            totals[index] -= stored_bytes(shape, None) - stored_bytes(shape, palettes)
    return totals


def _weight_entries(palettization: Palettization | None) -> list[dict[str, Any]]:
    if palettization is None:
        return []
    entries = []
    for record in palettization.records:
        entry = dataclasses.asdict(record)
        entry["snr_db"] = round(record.snr_db, 2) if math.isfinite(record.snr_db) else None
        entries.append(entry)
    return entries
