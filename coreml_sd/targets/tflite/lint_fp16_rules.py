"""Rules for .tflite files: numbers that fp16, in which the GPU delegate computes, cannot hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from coreml_sd.lint.fp16 import LARGEST_FP16
from coreml_sd.lint.rule import Hit
from coreml_sd.runtimes.litert.file import Graph, Op, Tensor
from coreml_sd.targets.tflite.lint_view import TFLITE, TFLiteView, hit

# Half of fp16's smallest number: everything below becomes 0.
UNDERFLOW = 2.0**-25

# Trained weights have about one value in a million below UNDERFLOW, which does no harm. From one
# in a hundred on (and for a lone epsilon) the tensor itself is on the wrong scale.
UNDERFLOW_SHARE = 0.01

# The delegate sums in an fp16 accumulator (LiteRT #9249). The mobile form brings what it sums to
# |x| <= 4, so that sums over this many values cannot pass 65,504.
LONGEST_SUM = int(LARGEST_FP16 / 4)

# x^3 passes 65,504 above |x| = 40.3.
LARGEST_CUBED = 40.0

_CHAIN = 8  # ops that are followed back from a TANH; the polynomial of a GELU has five
_BOUNDED = ("RELU6", "RELU_N1_TO_1", "TANH", "LOGISTIC", "SOFTMAX")
_READABLE = ("float32", "float16")
_NEUTRAL = {"MAXIMUM": -np.inf, "MINIMUM": np.inf}


@TFLITE.rule("not-finite", "error", "A constant that holds inf, -inf or NaN.")
def not_finite(view: TFLiteView) -> Iterator[Hit]:
    for op, tensor in view.constants():
        if tensor.dtype not in _READABLE or np.isfinite(view.peak(tensor)):
            continue
        if op.kind in _NEUTRAL and (view.file.data(tensor) == _NEUTRAL[op.kind]).all():
            yield hit(
                op,
                f"{op.kind} with {tensor.name} = {_NEUTRAL[op.kind]} changes nothing, but "
                "shaders compiled for finite numbers alone need not know inf",
                "a softmax over another axis than the last is exported so: move its axis last",
            )._replace(severity="note")
        else:
            yield hit(
                op,
                f"{tensor.name} holds inf or NaN: it meets 0 or another inf and becomes NaN",
                "mask with a finite number (-1e4 is enough before a softmax), check the weights",
            )


@TFLITE.rule("beyond-fp16", "error", "A constant beyond 65,504, the end of fp16.", gpu_only=True)
def beyond_fp16(view: TFLiteView) -> Iterator[Hit]:
    for op, tensor in view.constants():
        if tensor.dtype != "float32":
            continue
        peak = view.peak(tensor)
        if LARGEST_FP16 < peak < np.inf:
            yield hit(
                op,
                f"{tensor.name} reaches {peak:g}; the GPU computes in fp16, where that is inf",
                "mask with -1e4, or scale the layer before and after",
            )


@TFLITE.rule(
    "fp16-underflow",
    "warning",
    "A constant, or a large share of one, that is 0 in fp16 but not in fp32.",
    gpu_only=True,
)
def fp16_underflow(view: TFLiteView) -> Iterator[Hit]:
    for op, tensor in view.constants():
        if tensor.dtype != "float32":
            continue
        values = view.file.data(tensor)
        present = np.count_nonzero(values)
        lost = np.count_nonzero(np.abs(values) < UNDERFLOW) - (values.size - present)
        if lost and lost >= UNDERFLOW_SHARE * present:
            yield hit(
                op,
                f"{lost} of {present} values of {tensor.name} are 0 in fp16: an epsilon is lost "
                "and RSQRT or DIV meets 0",
                "use an epsilon of 1e-6 or more, or scale the values up",
            )


@TFLITE.rule(
    "long-sum",
    "warning",
    "MEAN or SUM over more than 16,376 values at once (T1.3).",
    gpu_only=True,
)
def long_sum(view: TFLiteView) -> Iterator[Hit]:
    for _, op in view.ops("MEAN", "SUM"):
        source, result = op.inputs[0], op.outputs[0]
        if source is None or source.dtype not in _READABLE or not result.elements:
            continue
        count = source.elements // result.elements
        if count > LONGEST_SUM:
            yield hit(
                op,
                f"adds {count:,} values in an fp16 accumulator: a total over 65,504 gives NaN "
                "(LiteRT #9249), although the mean itself is small",
                "take the mean in two stages over values scaled to |x| <= 4 "
                "(coreml_sd/mobile/group_norm.py)",
            )


@TFLITE.rule(
    "unclipped-gelu",
    "error",
    "TANH of a cubic whose argument is not clipped: GELU spelled in plain ops (T1.4).",
    gpu_only=True,
)
def unclipped_gelu(view: TFLiteView) -> Iterator[Hit]:
    for graph, op in view.ops("TANH"):
        if _degree(view, graph, op.inputs[0], _CHAIN) >= 3:
            yield hit(
                op,
                "the cube overflows fp16 above |x| = 40 and some GPUs make NaN of it",
                "clip the argument of the cubic to +-10 with MINIMUM and MAXIMUM (GELU clipped: "
                "--android-profile mali or adreno6xx), or use the op GELU",
            )


def _degree(view: TFLiteView, graph: Graph, tensor: Tensor | None, steps: int) -> float:
    """Degree of the polynomial that a tensor is of what is not bounded; 0 for constants."""
    if tensor is None or tensor.is_constant:
        return 0
    op = view.producer(graph, tensor)
    if op is None or steps == 0:
        return 1
    if _is_bounded(view, graph, op):
        return 0
    degrees = [_degree(view, graph, given, steps - 1) for given in op.inputs]
    if op.kind == "MUL":
        return sum(degrees)
    if op.kind in ("ADD", "SUB"):
        return max(degrees)
    if op.kind == "SQUARE":
        return 2 * degrees[0]
    if op.kind == "POW":
        return degrees[0] and degrees[0] * _largest_constant(view, op)
    return 1


def _is_bounded(view: TFLiteView, graph: Graph, op: Op) -> bool:
    """Whether an op's result is small enough to be cubed: squashed, or clipped from both sides."""
    if op.kind in _BOUNDED:
        return True
    other = {"MINIMUM": "MAXIMUM", "MAXIMUM": "MINIMUM"}.get(op.kind)
    makers = [view.producer(graph, tensor) for tensor in op.inputs]
    inner = next((maker for maker in makers if maker and maker.kind == other), None)
    limits = [_largest_constant(view, each) for each in (op, inner) if each]
    return inner is not None and max(limits) <= LARGEST_CUBED


def _largest_constant(view: TFLiteView, op: Op) -> float:
    """Largest magnitude among the constants that an op reads; inf where it reads none."""
    held = [t for t in op.inputs if t is not None and t.is_constant and t.dtype in _READABLE]
    return max((view.peak(tensor) for tensor in held), default=np.inf)
