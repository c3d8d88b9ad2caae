"""Export one network in its mobile form as one .mlpackage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from coreml_sd.compress.plan import Palettization
from coreml_sd.errors import CoremlSDError
from coreml_sd.libraries import quiet_conversion, quieten
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.targets.coreml.palettized_constants import EmissionRecord, pass_pipeline
from coreml_sd.targets.coreml.precision import fp16_except_sinusoid

Precision = Literal["float16", "float32"]


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
    palettization: Palettization | None = None,
    precision: Precision = "float16",
) -> list[EmissionRecord]:
    """Trace, convert and save one network.

    Args:
        path: where the .mlpackage goes; must not exist.
        network: a whole mobile form or a piece of one; its inputs and outputs are those of
            `inputs` and `outputs`, in order.
        palettization: weights stored as palettes; each must be found in the program.
        precision: of the arithmetic; float32 exists to prove the conversion itself.

    Returns:
        Where each palette went.

    Raises:
        CoremlSDError: the names do not match, the conversion fails, or a palette is not used.
    """
    quieten()
    import coremltools as ct

    _check_names(network, inputs, outputs)
    traced = _trace(network.eval(), inputs)
    pipeline, emitted = pass_pipeline(palettization, min_os)
    try:
        with quiet_conversion():
            model = ct.convert(
                traced,
                inputs=[_tensor_type(spec, precision) for spec in inputs],
                outputs=[
                    ct.TensorType(name=spec.name, dtype=_dtype(spec, precision)) for spec in outputs
                ],
                minimum_deployment_target=getattr(ct.target, min_os),
                compute_precision=(
                    ct.precision.FLOAT32 if precision == "float32" else fp16_except_sinusoid()
                ),
                convert_to="mlprogram",
                skip_model_load=True,
                pass_pipeline=pipeline,
            )
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
        raise CoremlSDError(f"{path.name}: coremltools could not convert it: {error}") from error
    _describe(model, inputs, outputs, metadata)
    model.save(str(path))
    return emitted()


def _check_names(
    network: StepSequence, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    for kind, specs, names in (
        ("inputs", inputs, network.inputs),
        ("outputs", outputs, network.outputs),
    ):
        if tuple(spec.name for spec in specs) != tuple(names):
            raise CoremlSDError(f"{kind} {[s.name for s in specs]} do not match {list(names)}")


def _trace(network: StepSequence, inputs: Sequence[TensorSpec]) -> Any:
    examples = tuple(torch.zeros(spec.shape, dtype=torch.float32) for spec in inputs)
    with torch.no_grad():
        return torch.jit.trace(network, examples, check_trace=False)  # type: ignore[no-untyped-call]


def _tensor_type(spec: TensorSpec, precision: Precision) -> Any:
    import coremltools as ct

    return ct.TensorType(name=spec.name, shape=spec.shape, dtype=_dtype(spec, precision))


def _dtype(spec: TensorSpec, precision: Precision) -> type:
    dtype: type = np.dtype(spec.dtype).type
    return np.float32 if precision == "float32" and dtype is np.float16 else dtype


def _describe(
    model: Any,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    metadata: PackageMetadata,
) -> None:
    model.author = metadata.author
    model.license = metadata.license
    model.short_description = metadata.description
    model.version = metadata.version
    for spec in inputs:
        model.input_description[spec.name] = spec.description
    for spec in outputs:
        model.output_description[spec.name] = spec.description
    for key, value in metadata.extra.items():
        model.user_defined_metadata[key] = value
