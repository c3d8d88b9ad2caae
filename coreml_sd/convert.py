"""Conversion end to end: model -> mobile form -> palettes -> packages -> proof -> bundle."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coreml_sd import __version__
from coreml_sd.bundle import Bundle, new_bundle, open_bundle, write_manifest
from coreml_sd.compress.limits import PaletteSpec, require_supported
from coreml_sd.compress.plan import Palettization, palettize_module
from coreml_sd.compress.verify import verify_decoded
from coreml_sd.config import ConversionConfig
from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.models.component import ComponentSpec, TensorSpec
from coreml_sd.models.open_model import open_model
from coreml_sd.models.pipeline import DiffusionModel
from coreml_sd.models.tokenizer_files import write_tokenizer_files
from coreml_sd.progress import Progress, Silent

_REPORTED_PACKAGES = ("coremltools", "diffusers", "numpy", "torch", "transformers")


@dataclass(frozen=True)
class Plan:
    """What a conversion will do, decided before any weight is read."""

    config: ConversionConfig
    model: DiffusionModel
    components: tuple[ComponentSpec, ...]
    palettes: PaletteSpec | None


def plan_conversion(config: ConversionConfig) -> Plan:
    """Check every knob against the model and the oldest system, and fill in what was left open.

    Raises:
        UserError: the model is not usable, or a knob asks for what cannot be had.
    """
    palettes = _palette_spec(config)
    if config.attention == "sdpa" and config.min_os != "iOS18":
        raise UserError(
            "attention sdpa is an op of iOS18: add --min-os iOS18 or choose split-einsum"
        )
    model = open_model(config)
    height, width = model.facts.size
    resolved = dataclasses.replace(config, size=f"{height}x{width}")
    components = tuple(model.component(name) for name in config.components)
    return Plan(resolved, model, components, palettes)


def convert(
    config: ConversionConfig,
    destination: Path,
    *,
    overwrite: bool = False,
    verify: bool = True,
    progress: Progress | None = None,
) -> Bundle:
    """Convert a model into a bundle.

    The bundle appears under `destination` only when it is whole and, with `verify`, after every
    saved file was executed and passed its gates.

    Raises:
        UserError: the user can put it right. CoremlSDError: a gate failed, or a fault of ours.
    """
    progress = progress or Silent()
    plan = plan_conversion(config)
    with new_bundle(destination, overwrite=overwrite) as staging:
        write_tokenizer_files(plan.model.folder, staging)
        entries = {}
        for component in plan.components:
            entries[component.name] = _convert_component(plan, component, staging, verify, progress)
        with progress.stage("checksums"):
            write_manifest(staging, _manifest(plan, entries))
    return open_bundle(destination, check=False)


def _palette_spec(config: ConversionConfig) -> PaletteSpec | None:
    if config.palettize is None:
        return None
    require_supported(config.palettize, config.granularity, config.min_os)
    if config.granularity == "per-grouped-channel":
        return PaletteSpec(config.palettize, "per-grouped-channel", config.group_size)
    return PaletteSpec(config.palettize)


def _convert_component(
    plan: Plan, component: ComponentSpec, staging: Path, verify: bool, progress: Progress
) -> dict[str, Any]:
    """Write the files of one component and prove them; returns its manifest entry."""
    from coreml_sd.mobile.measure import tensor_shapes
    from coreml_sd.targets.coreml.chunks import plan_cuts

    started = time.perf_counter()
    options = MobileOptions(attention=plan.config.attention)  # type: ignore[arg-type]
    with progress.stage(f"{component.name}: load"):
        source = component.load()
        mobile = mobile_form(component.name, source, options)
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
        "description": component.description,
        "inputs": [dataclasses.asdict(spec) for spec in component.inputs],
        "outputs": [dataclasses.asdict(spec) for spec in component.outputs],
        "files": files,
        "seams": [
            {"tensors": list(mobile.seam(cut)), "bytes": size}
            for cut, size in zip(cuts.boundaries, cuts.seam_bytes, strict=True)
        ],
        "source_bytes": sum(mobile.step_bytes()),
        "weights": _weight_entries(palettization),
    }
    if verify:
        with progress.stage(f"{component.name}: execute and compare"):
            entry["parity"] = _prove(component, source, mobile, palettization, staging, files)
    entry["seconds"] = round(time.perf_counter() - started, 2)
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


def _prove(
    component: ComponentSpec,
    source: Any,
    mobile: Any,
    palettization: Palettization | None,
    staging: Path,
    files: list[dict[str, Any]],
) -> dict[str, Any]:
    from coreml_sd.parity import component_parity

    paths = [staging / entry["path"] for entry in files]
    result = component_parity(component, source, mobile, palettization, paths)
    failed = [check for check in result.checks if not check.passed]
    if failed:
        raise CoremlSDError(
            f"{component.name}: {failed[0].name} is {failed[0].figure} (gate {failed[0].gate}); "
            "the bundle is not written"
        )
    return result.to_json()


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


def _manifest(plan: Plan, entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    licence, author = plan.model.folder.licence_and_author()
    return {
        "tool": {
            "name": "coreml-sd",
            "version": __version__,
            "packages": {name: importlib.metadata.version(name) for name in _REPORTED_PACKAGES},
        },
        "model": {
            "name": plan.model.source.name,
            "family": plan.model.facts.family,
            "revision": plan.model.source.revision,
            "sha256": plan.model.folder.digest(),
            "license": licence,
            "author": author,
            "config_digest": plan.config.digest,
        },
        "config": plan.config.to_dict(),
        "pipeline": dataclasses.asdict(plan.model.facts),
        "components": entries,
    }
