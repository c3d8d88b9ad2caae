"""From the mobile form to packages: palettes, pieces and their proof."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from coreml_sd import __version__
from coreml_sd.compress.palettization import Palettization, palettize_module
from coreml_sd.compress.verify import verify_stored
from coreml_sd.manifest.form import NetworkFile, TargetFacts
from coreml_sd.mobile import mobile_form
from coreml_sd.models.component import ComponentSpec, TensorSpec
from coreml_sd.parity.checks import ComponentParity
from coreml_sd.processes.memory import collect_garbage
from coreml_sd.progress import Stage
from coreml_sd.targets.coreml.chunks import Shapes
from coreml_sd.targets.coreml.facts import coreml_facts, package_facts, packages_of
from coreml_sd.targets.coreml.settings import mobile_options
from coreml_sd.targets.job import ConversionJob, Converted
from coreml_sd.targets.plan import Plan


def convert_for_coreml(job: ConversionJob) -> Converted:
    """Write the packages of one component and prove them.

    Palettes are solved on threads while the programs are made.

    Raises:
        CoremlSDError: a file fails its gates.
    """
    plan, component = job.plan, job.component
    mobile = mobile_form(component.form, job.source.network, mobile_options(plan))
    packages = packages_of(plan, component, mobile)
    with _palettes(job, mobile) as palettization:
        files = []
        for name, piece in packages.pieces.items():
            with job.progress.stage(Stage("export", component.name, target="coreml", detail=name)):
                path = job.staging / name
                files.append(_export_piece(job, path, piece, packages.shapes, palettization))
    decided = palettization() if palettization else None
    facts = coreml_facts(packages, mobile, decided, files)
    return Converted(facts, _proof(job, facts, decided) if job.verify else None)


def _proof(
    job: ConversionJob, facts: TargetFacts, decided: Palettization | None
) -> ComponentParity:
    from coreml_sd.parity.reference import reference
    from coreml_sd.targets.coreml.proof import component_parity

    collect_garbage()
    component = job.component
    with job.progress.stage(Stage("verify", component.name, target="coreml")):
        paths = [job.staging / file.path for file in facts.files]
        source = reference(component, job.source)
        form = mobile_form(component.form, source.network, mobile_options(job.plan))
        return component_parity(component, source, form, decided, paths, job.own)


@contextlib.contextmanager
def _palettes(job: ConversionJob, mobile: Any) -> Iterator[Callable[[], Palettization] | None]:
    """Begin to solve; gives what waits for the end, or None where weights stay fp16."""
    spec, source = job.plan.palettes, job.source
    if spec is None:
        yield None
        return

    def solve() -> Palettization:
        stage = Stage("palettes", job.component.name, target="coreml", detail=f"{spec.bits}-bit")
        with job.progress.stage(stage) as advance:
            known = source.ahead.finish(advance) if source.ahead else None
            return palettize_module(
                mobile, spec, advance, weights=source.weights, workers=job.plan.threads, known=known
            )

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool.submit(solve).result


def _export_piece(
    job: ConversionJob,
    path: Path,
    piece: Any,
    shapes: Shapes,
    palettization: Callable[[], Palettization] | None,
) -> NetworkFile:
    from coreml_sd.runtimes.mil import MilPackage
    from coreml_sd.targets.coreml.export import export_package
    from coreml_sd.targets.coreml.stored_weights import stored_payloads

    plan, component, weights = job.plan, job.component, job.source.weights
    names = export_package(
        path,
        piece,
        _piece_specs(piece.inputs, component.inputs, shapes),
        _piece_specs(piece.outputs, component.outputs, shapes),
        _metadata(plan, component),
        min_os=plan.config.min_os,
        weights=weights,
        palettization=palettization,
        workers=plan.threads,
    )
    package = MilPackage(path)
    palettes = palettization().by_parameter if palettization else {}
    verify_stored(stored_payloads(package, names), weights, palettes, plan.threads)
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
