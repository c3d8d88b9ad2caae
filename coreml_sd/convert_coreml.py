"""The Core ML side of a conversion: palettes, pieces, packages and their proof."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from coreml_sd import __version__
from coreml_sd.compress.plan import Palettization, palettize_module
from coreml_sd.compress.verify import verify_decoded
from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.models.component import ComponentSpec, TensorSpec
from coreml_sd.plan import Plan
from coreml_sd.progress import Progress


def mobile_options(plan: Plan) -> MobileOptions:
    """The options of the mobile form that the Core ML files are made from."""
    return MobileOptions(attention=plan.config.attention)  # type: ignore[arg-type]


def convert_for_coreml(
    plan: Plan,
    component: ComponentSpec,
    source: Any,
    staging: Path,
    verify: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Write the packages of one component and prove them; returns its part of the manifest.

    Raises:
        CoremlSDError: a file fails its gates.
    """
    from coreml_sd.mobile.measure import tensor_shapes
    from coreml_sd.targets.coreml.chunks import plan_cuts

    mobile = mobile_form(component.name, source, mobile_options(plan))
    palettization = None
    if plan.palettes is not None:
        with progress.stage(f"{component.name}: {plan.palettes.bits}-bit palettes") as advance:
            palettization = palettize_module(mobile, plan.palettes, advance)
    shapes = tensor_shapes(mobile, component.inputs)
    chunks = plan.config.chunks if component.name == "unet" else "1"
    stored = _stored_step_bytes(mobile, palettization)
    cuts = plan_cuts(mobile, shapes, chunks, stored)
    pieces = mobile.cut(cuts.boundaries)
    files = []
    for number, piece in enumerate(pieces, start=1):
        name = component.file_name + (f"Chunk{number}" if len(pieces) > 1 else "")
        with progress.stage(f"{component.name}: export {name}.mlpackage"):
            files.append(
                _export_piece(
                    plan, component, staging / f"{name}.mlpackage", piece, shapes, palettization
                )
            )
    entry: dict[str, Any] = {
        "files": files,
        "seams": [
            {"tensors": list(mobile.seam(cut)), "bytes": size}
            for cut, size in zip(cuts.boundaries, cuts.seam_bytes, strict=True)
        ],
        "weights": _weight_entries(palettization),
    }
    if verify:
        from coreml_sd.parity.coreml import component_parity

        with progress.stage(f"{component.name}: execute and compare"):
            paths = [staging / file["path"] for file in files]
            entry["parity"] = component_parity(component, source, mobile, palettization, paths)
    return entry


def _export_piece(
    plan: Plan,
    component: ComponentSpec,
    path: Path,
    piece: Any,
    shapes: dict[str, tuple[int, ...]],
    palettization: Palettization | None,
) -> dict[str, Any]:
    from coreml_sd.runtimes.mil import MilPackage
    from coreml_sd.targets.coreml.export import export_package

    part = palettization.restricted_to(piece) if palettization else None
    inputs = _piece_specs(piece.inputs, component.inputs, shapes)
    outputs = _piece_specs(piece.outputs, component.outputs, shapes)
    metadata = _metadata(plan, component)
    export_package(
        path, piece, inputs, outputs, metadata, min_os=plan.config.min_os, palettization=part
    )
    package = MilPackage(path)
    if part is not None:
        verify_decoded(package.decoded_weights(), part, path.name)
    return {
        "path": path.name,
        "target": "coreml",
        "inputs": [spec.name for spec in inputs],
        "outputs": [spec.name for spec in outputs],
        "weight_bytes": package.weight_bytes(),
    }


def export_whole(
    plan: Plan,
    component: ComponentSpec,
    path: Path,
    mobile: Any,
    palettization: Palettization | None,
) -> None:
    """Export a component as one file whatever its chunks, for comparison."""
    from coreml_sd.targets.coreml.export import export_package

    export_package(
        path,
        mobile,
        component.inputs,
        component.outputs,
        _metadata(plan, component),
        min_os=plan.config.min_os,
        palettization=palettization,
    )


def _piece_specs(
    names: tuple[str, ...], known: tuple[TensorSpec, ...], shapes: dict[str, tuple[int, ...]]
) -> list[TensorSpec]:
    """The component's own specs where a name is one; fp16 tensors of the seam elsewhere."""
    by_name = {spec.name: spec for spec in known}
    return [
        by_name.get(name) or TensorSpec(name, shapes[name], "float16", f"Seam tensor: {name}")
        for name in names
    ]


def _stored_step_bytes(mobile: Any, palettization: Palettization | None) -> list[int]:
    """Weight bytes of each step as the file will hold them."""
    if palettization is None:
        return list(mobile.step_bytes())
    saved = {r.parameter: r.dense_bytes - r.stored_bytes for r in palettization.records}
    totals = list(mobile.step_bytes())
    for index, step in enumerate(mobile.steps):
        for name, _ in step.module.named_parameters():
            totals[index] -= saved.get(f"{step.name}.{name}", 0)
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


def _metadata(plan: Plan, component: ComponentSpec) -> Any:
    from coreml_sd.targets.coreml.export import PackageMetadata

    licence, author = plan.model.folder.licence_and_author()
    return PackageMetadata(
        author=author,
        license=licence,
        description=f"{component.description} Source: {plan.model.source.name}.",
        version=__version__,
        extra={
            "com.github.coreml-sd.version": __version__,
            "com.github.coreml-sd.config": plan.config.digest,
            "com.github.coreml-sd.source": plan.model.source.name,
            "com.github.coreml-sd.revision": plan.model.source.revision or "local",
        },
    )
