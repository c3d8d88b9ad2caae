"""From a torch network to a program of Core ML ops, without running it and without its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from coreml_sd.mobile.layer_weights import layer_weights
from coreml_sd.mobile.meta import on_meta
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.models.weights.values import Weights, fp32_value, set_tensor
from coreml_sd.targets.coreml.placeholders import StandIns
from coreml_sd.targets.coreml.precision import Precision

_SMALLEST = 10  # elements; below, a constant stands in the program itself


def capture(
    network: StepSequence,
    weights: Weights,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    min_os: str,
    precision: Precision,
) -> tuple[Any, StandIns]:
    """The program as coremltools' front end makes it, before any pass, and its stand-ins.

    Small parameters (norms, biases) have their values, because passes fold them.

    Raises:
        UserError: a small parameter holds NaN, infinity or a number beyond fp16.
        ValueError, TypeError, NotImplementedError, RuntimeError: coremltools refuses.
    """
    import coremltools as ct

    shapes = {
        name: tuple(weight.shape)
        for name, weight in layer_weights(network).items()
        if weight.numel() >= _SMALLEST
    }
    stand_ins = StandIns(shapes)
    traced = _trace(network, inputs)
    _fill(traced, network, weights, stand_ins)
    program = ct.convert(
        traced,
        inputs=[_tensor_type(spec, precision) for spec in inputs],
        outputs=[ct.TensorType(name=spec.name, dtype=_dtype(spec, precision)) for spec in outputs],
        minimum_deployment_target=getattr(ct.target, min_os),
        compute_precision=ct.precision.FLOAT32,  # the cast to fp16 is one of our passes
        convert_to="milinternal",
        pass_pipeline=ct.PassPipeline.EMPTY,
    )
    return program, stand_ins


def _trace(network: StepSequence, inputs: Sequence[TensorSpec]) -> Any:
    with on_meta(network), torch.no_grad():
        examples = tuple(torch.zeros(spec.shape, device="meta") for spec in inputs)
        return torch.jit.trace(network.eval(), examples, check_trace=False)  # type: ignore[no-untyped-call]


def _fill(traced: Any, network: StepSequence, weights: Weights, stand_ins: StandIns) -> None:
    """Give the traced module's tensors their values, or stand-ins."""
    buffers = dict(network.named_buffers(remove_duplicate=False))
    for name in [name for name, _ in traced.named_buffers(remove_duplicate=False)]:
        set_tensor(traced, name, buffers[name])
    for name in [name for name, _ in traced.named_parameters(remove_duplicate=False)]:
        if name in stand_ins.shapes:
            value = stand_ins.tensor(name)
        else:
            value = torch.from_numpy(fp32_value(weights, name))
        set_tensor(traced, name, torch.nn.Parameter(value, requires_grad=False))


def _tensor_type(spec: TensorSpec, precision: Precision) -> Any:
    import coremltools as ct

    return ct.TensorType(name=spec.name, shape=spec.shape, dtype=_dtype(spec, precision))


def _dtype(spec: TensorSpec, precision: Precision) -> type:
    dtype: type = np.dtype(spec.dtype).type
    return np.float32 if precision == "float32" and dtype is np.float16 else dtype
