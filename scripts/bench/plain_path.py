"""The plain path: trace, `ct.convert` and `palettize_weights`, with nothing of ours after the
mobile form. Benchmarks and tests hold our own path against it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.targets.coreml.precision import Precision, fp16_except_sinusoid
from coreml_sd.upstream.noise import quiet_conversion, quieten

_SMALLEST = 10_000  # weights below need scikit-learn, and are nothing in a full-size network


def convert_plainly(
    path: Path,
    network: StepSequence,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    min_os: str,
    precision: Precision = "float16",
    bits: int | None = None,
) -> None:
    """Convert a network in memory (fp32) with coremltools' default pipeline and save it."""
    quieten()
    import coremltools as ct

    examples = tuple(torch.zeros(spec.shape, dtype=torch.float32) for spec in inputs)
    with torch.no_grad():
        traced = torch.jit.trace(network.eval(), examples, check_trace=False)  # type: ignore[no-untyped-call]
    fp32 = precision == "float32"
    with quiet_conversion():
        model: Any = ct.convert(
            traced,
            inputs=[
                ct.TensorType(name=spec.name, shape=spec.shape, dtype=_dtype(spec, fp32))
                for spec in inputs
            ],
            outputs=[ct.TensorType(name=spec.name, dtype=_dtype(spec, fp32)) for spec in outputs],
            minimum_deployment_target=getattr(ct.target, min_os),
            compute_precision=ct.precision.FLOAT32 if fp32 else fp16_except_sinusoid(),
            convert_to="mlprogram",
            skip_model_load=True,
        )
        if bits is not None:
            from coremltools.optimize import coreml as compression

            config = compression.OptimizationConfig(
                global_config=compression.OpPalettizerConfig(
                    mode="kmeans", nbits=bits, weight_threshold=_SMALLEST
                )
            )
            model = compression.palettize_weights(model, config)
    model.save(str(path))


def _dtype(spec: TensorSpec, fp32: bool) -> type:
    dtype: type = np.dtype(spec.dtype).type
    return np.float32 if fp32 and dtype is np.float16 else dtype
