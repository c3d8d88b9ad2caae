"""The Core ML side of a conversion: palettes, pieces, packages and their proof."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coreml_sd import __version__
from coreml_sd.compress.palettization import Palettization, palettize_module
from coreml_sd.compress.source_network import OpenedSource
from coreml_sd.compress.verify import verify_stored
from coreml_sd.conversion.facts import coreml_facts, mobile_options, package_facts, packages_of
from coreml_sd.conversion.plan import Plan
from coreml_sd.mobile import mobile_form
from coreml_sd.models.component import ComponentSpec, TensorSpec
from coreml_sd.processes.memory import collect_garbage
from coreml_sd.progress import Progress
from coreml_sd.targets.coreml.chunks import Shapes

if TYPE_CHECKING:
    from coreml_sd.parity.reference import Reference


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
    mobile = mobile_form(component.form, source.network, mobile_options(plan))
    packages = packages_of(plan, component, mobile)
    with _palettes(plan, component, mobile, source, progress) as palettization:
        files = []
        for name, piece in packages.pieces.items():
            path, shapes = staging / name, packages.shapes
            with progress.stage(f"{component.name}: export {name}"):
                files.append(
                    _export_piece(plan, component, path, piece, shapes, source, palettization)
                )
    decided = palettization() if palettization else None
    entry: dict[str, Any] = {"files": files, **coreml_facts(packages, mobile, decided)}
    if verify:
        from coreml_sd.parity.reference import reference
        from coreml_sd.targets.coreml.proof import component_parity

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
    from coreml_sd.targets.coreml.export import export_package
    from coreml_sd.targets.coreml.stored_weights import stored_payloads

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
    return package_facts(package, piece)


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
