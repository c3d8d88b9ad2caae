"""The Core ML side of a conversion: palettes, pieces, packages and their proof."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coreml_sd import __version__
from coreml_sd.compress.choose import stored_bytes
from coreml_sd.compress.limits import PaletteSpec
from coreml_sd.compress.plan import Palettization, palettize_module
from coreml_sd.compress.verify import verify_stored
from coreml_sd.memory.freed import collect_garbage
from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.mobile.weights import layer_weights
from coreml_sd.models.component import ComponentSpec, TensorSpec
from coreml_sd.plan import Plan
from coreml_sd.progress import Progress
from coreml_sd.sources import OpenedSource
from coreml_sd.targets.coreml.chunks import Shapes, plan_cuts

if TYPE_CHECKING:
    from coreml_sd.parity.reference import Reference


def mobile_options(plan: Plan) -> MobileOptions:
    """The options of the mobile form that the Core ML files are made from."""
    return MobileOptions(attention=plan.config.attention)  # type: ignore[arg-type]


def convert_for_coreml(
    plan: Plan,
    component: ComponentSpec,
    source: OpenedSource,
    staging: Path,
    verify: bool,
    progress: Progress,
    own: Reference | None = None,
) -> dict[str, Any]:
    """Write the packages of one component and prove them; returns its part of the manifest.

    With `verify` they are held against `own`, the network as diffusers opens it, where it does.

    Palettes are solved on threads while the programs are made.

    Raises:
        CoremlSDError: a file fails its gates.
    """
    from coreml_sd.mobile.measure import tensor_shapes

    mobile = mobile_form(component.form, source.network, mobile_options(plan))

    @functools.cache
    def shapes() -> dict[str, tuple[int, ...]]:
        return tensor_shapes(mobile, component.inputs)

    chunks = plan.config.chunks if component.name == "unet" else "1"
    cuts = plan_cuts(mobile, shapes, chunks, _stored_step_bytes(mobile, plan.palettes))
    pieces = mobile.cut(cuts.boundaries)
    with _palettes(plan, component, mobile, source, progress) as palettization:
        files = []
        for number, piece in enumerate(pieces, start=1):
            name = component.file_name + (f"Chunk{number}" if len(pieces) > 1 else "")
            path = staging / f"{name}.mlpackage"
            with progress.stage(f"{component.name}: export {name}.mlpackage"):
                files.append(
                    _export_piece(plan, component, path, piece, shapes, source, palettization)
                )
    decided = palettization() if palettization else None
    entry: dict[str, Any] = {
        "files": files,
        "seams": [
            {"tensors": list(mobile.seam(cut)), "bytes": size}
            for cut, size in zip(cuts.boundaries, cuts.seam_bytes, strict=True)
        ],
        "weights": _weight_entries(decided),
    }
    if verify:
        from coreml_sd.parity.coreml import component_parity
        from coreml_sd.parity.reference import reference

        collect_garbage()
        with progress.stage(f"{component.name}: execute and compare"):
            paths = [staging / file["path"] for file in files]
            held = reference(component, source)
            form = mobile_form(component.form, held.network, mobile_options(plan))
            entry["parity"] = component_parity(component, held, form, decided, paths, own)
    return entry


@contextlib.contextmanager
def _palettes(
    plan: Plan, component: ComponentSpec, mobile: Any, source: OpenedSource, progress: Progress
) -> Iterator[Callable[[], Palettization] | None]:
    """Begin to solve; gives what waits for the end, or None where weights stay fp16."""
    spec = plan.palettes
    if spec is None:
        yield None
        return

    def solve() -> Palettization:
        with progress.stage(f"{component.name}: {spec.bits}-bit palettes") as advance:
            known = source.early.finish(advance) if source.early else None
            return palettize_module(
                mobile, spec, advance, weights=source.weights, workers=plan.threads, known=known
            )

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool.submit(solve).result


def _export_piece(
    plan: Plan,
    component: ComponentSpec,
    path: Path,
    piece: Any,
    shapes: Shapes,
    source: OpenedSource,
    palettization: Callable[[], Palettization] | None,
) -> dict[str, Any]:
    from coreml_sd.runtimes.mil import MilPackage
    from coreml_sd.stored_weights import stored_payloads
    from coreml_sd.targets.coreml.export import export_package

    inputs = _piece_specs(piece.inputs, component.inputs, shapes)
    outputs = _piece_specs(piece.outputs, component.outputs, shapes)
    names = export_package(
        path,
        piece,
        inputs,
        outputs,
        _metadata(plan, component),
        min_os=plan.config.min_os,
        weights=source.weights,
        palettization=palettization,
        workers=plan.threads,
    )
    package = MilPackage(path)
    palettes = palettization().by_parameter if palettization else {}
    verify_stored(stored_payloads(package, names), source.weights, palettes, plan.threads)
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
    names: tuple[str, ...], known: tuple[TensorSpec, ...], shapes: Shapes
) -> list[TensorSpec]:
    """The component's own specs where a name is one; fp16 tensors of the seam elsewhere."""
    by_name = {spec.name: spec for spec in known}
    return [
        by_name.get(name) or TensorSpec(name, shapes()[name], "float16", f"Seam tensor: {name}")
        for name in names
    ]


def _stored_step_bytes(mobile: Any, palettes: PaletteSpec | None) -> list[int]:
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
