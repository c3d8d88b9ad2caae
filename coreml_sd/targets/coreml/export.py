"""Export one network in its mobile form as one .mlpackage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coreml_sd.compress.palettization import Palettization
from coreml_sd.errors import CoremlSDError
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.models.weights.values import ModuleWeights, Weights
from coreml_sd.targets.coreml.precision import Precision
from coreml_sd.upstream.noise import quiet_conversion, quieten


@dataclass(frozen=True)
class PackageMetadata:
    """What a package says of itself in Xcode and through `MLModel`."""

    author: str
    license: str
    description: str
    version: str
    extra: dict[str, str]


def export_package(
    path: Path,
    network: StepSequence,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    metadata: PackageMetadata,
    *,
    min_os: str,
    weights: Weights | None = None,
    palettization: Palettization | Callable[[], Palettization] | None = None,
    precision: Precision = "float16",
    workers: int | None = None,
) -> dict[str, str]:
    """Capture, convert and write one network; no more than a few of its weights are in memory.

    Args:
        path: where the .mlpackage goes; must not exist.
        network: a whole mobile form or a piece of one; its inputs and outputs are those of
            `inputs` and `outputs`, in order. Its parameters may lie on `meta`.
        weights: the values of its parameters; its own where not given.
        palettization: weights stored as palettes, or what gives them once they are solved.
        precision: of the arithmetic; float32 exists to prove the conversion itself.
        workers: threads that write weights.

    Returns:
        The name in the program of each layer's weight.

    Raises:
        CoremlSDError: the names do not match, or the conversion fails.
        UserError: a weight is damaged or does not fit in fp16.
    """
    quieten()
    from coreml_sd.targets.coreml.capture import capture
    from coreml_sd.targets.coreml.layer_payloads import write_layers
    from coreml_sd.targets.coreml.passes import run_passes
    from coreml_sd.targets.coreml.program_file import (
        has_sub_byte_types,
        program_spec,
        weight_path,
        write_package,
    )
    from coreml_sd.targets.coreml.weight_file import WeightFile
    from coreml_sd.upstream.coremltools_shortcuts import lean_conversion

    _check_names(network, inputs, outputs)
    held = weights or ModuleWeights(network)
    try:
        with quiet_conversion(), lean_conversion():
            program, stand_ins = capture(
                network, held, inputs, outputs, min_os=min_os, precision=precision
            )
            run_passes(program, stand_ins, precision)
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
        raise CoremlSDError(f"{path.name}: coremltools could not convert it: {error}") from error
    except CoremlSDError as error:
        raise type(error)(f"{path.name}: {error}") from error
    decided = palettization() if callable(palettization) else palettization
    palettes = decided.by_parameter if decided else {}
    with WeightFile(weight_path(path)) as file:
        layers = write_layers(
            file,
            stand_ins.shapes,
            held,
            palettes,
            dense=precision,
            sub_byte=has_sub_byte_types(min_os),
            workers=workers,
        )
        spec, names = program_spec(program, stand_ins, layers, file, min_os)
    _describe(spec, inputs, outputs, metadata)
    write_package(path, spec)
    return names


def _check_names(
    network: StepSequence, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    for kind, specs, names in (
        ("inputs", inputs, network.inputs),
        ("outputs", outputs, network.outputs),
    ):
        if tuple(spec.name for spec in specs) != tuple(names):
            raise CoremlSDError(f"{kind} {[s.name for s in specs]} do not match {list(names)}")


def _describe(
    spec: Any,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    metadata: PackageMetadata,
) -> None:
    described = spec.description
    texts = {item.name: item.description for item in (*inputs, *outputs)}
    for feature in (*described.input, *described.output):
        feature.shortDescription = texts[feature.name]
    described.metadata.author = metadata.author
    described.metadata.license = metadata.license
    described.metadata.shortDescription = metadata.description
    described.metadata.versionString = metadata.version
    for key, value in metadata.extra.items():
        described.metadata.userDefined[key] = value
