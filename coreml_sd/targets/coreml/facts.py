"""What the manifest says of the packages of one component."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from coreml_sd.compress.choose import stored_bytes
from coreml_sd.compress.palettization import Palettization
from coreml_sd.compress.supported import PaletteSpec
from coreml_sd.manifest.form import NetworkFile, Seam, StoredWeight, TargetFacts
from coreml_sd.mobile.layer_weights import layer_weights
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import ComponentSpec
from coreml_sd.targets.coreml.chunks import CutPlan, Shapes, plan_cuts
from coreml_sd.targets.plan import Plan

if TYPE_CHECKING:
    from coreml_sd.runtimes.mil import MilPackage


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

    chunks = plan.config.chunks if component.role == "denoiser" else "1"
    cuts = plan_cuts(mobile, shapes, chunks, _stored_step_bytes(mobile, plan.palettes))
    pieces = mobile.cut(cuts.boundaries)
    named = {
        f"{component.file_name}{f'Chunk{number}' if len(pieces) > 1 else ''}.mlpackage": piece
        for number, piece in enumerate(pieces, start=1)
    }
    return Packages(cuts, named, shapes)


def coreml_facts(
    packages: Packages,
    mobile: StepSequence,
    decided: Palettization | None,
    files: Iterable[NetworkFile],
) -> TargetFacts:
    """Files, cuts and palettes."""
    cuts = packages.cuts
    seams = [
        Seam(list(mobile.seam(cut)), size)
        for cut, size in zip(cuts.boundaries, cuts.seam_bytes, strict=True)
    ]
    return TargetFacts(list(files), seams, _stored_weights(decided))


def package_facts(package: MilPackage, piece: StepSequence) -> NetworkFile:
    """One .mlpackage."""
    return NetworkFile(
        package.path.name,
        "coreml",
        list(piece.inputs),
        list(piece.outputs),
        package.weight_bytes(),
    )


def _stored_step_bytes(mobile: StepSequence, palettes: PaletteSpec | None) -> list[int]:
    """Weight bytes of each step as the file will hold them."""
    totals = list(mobile.step_bytes())
    for index, step in enumerate(mobile.steps):
        for weight in layer_weights(step.module).values():
            shape = tuple(weight.shape)
            totals[index] -= stored_bytes(shape, None) - stored_bytes(shape, palettes)
    return totals


def _stored_weights(palettization: Palettization | None) -> list[StoredWeight]:
    weights = []
    for record in palettization.records if palettization else []:
        facts = dataclasses.asdict(record)
        facts["snr_db"] = round(record.snr_db, 2) if math.isfinite(record.snr_db) else None
        weights.append(msgspec.convert(facts, StoredWeight))
    return weights
