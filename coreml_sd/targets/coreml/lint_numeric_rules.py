"""Rules for .mlpackage files: numbers that fp16 cannot hold, and ops that leave fp16."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from coreml_sd.lint.fp16 import LARGEST_FP16
from coreml_sd.lint.rule import Hit
from coreml_sd.targets.coreml.lint_view import COREML, FunctionView, MilView, Node, hit, layer_of

_WAVES = ("sin", "cos")
# As in targets/coreml/precision.py: reshape(timestep), times the frequencies, times the scale.
_UPSTREAM_STEPS = 3


@COREML.rule("not-finite", "error", "A constant that holds inf, -inf or NaN.")
def not_finite(view: MilView) -> Iterator[Hit]:
    for function in view.functions:
        for name, peak in function.peaks:
            if not np.isfinite(peak):
                yield _constant(
                    function,
                    name,
                    f"{name} holds inf or NaN: on the Neural Engine -inf + -inf and 0 * inf make "
                    "NaN, and the picture is black",
                    "mask with a finite number (-1e4 is enough before a softmax), clip on both "
                    "sides, check the weights",
                )


@COREML.rule("beyond-fp16", "error", "A constant beyond 65,504, the end of fp16.")
def beyond_fp16(view: MilView) -> Iterator[Hit]:
    for function in view.functions:
        for name, peak in function.peaks:
            if LARGEST_FP16 < peak < np.inf:
                yield _constant(
                    function,
                    name,
                    f"{name} reaches {peak:g}; GPU and Neural Engine compute in fp16, where that "
                    "is inf",
                    "mask with -1e4, or scale the layer before and after",
                )


@COREML.rule("fp32-island", "warning", "An op that computes in fp32, the timestep's sines aside.")
def fp32_island(view: MilView) -> Iterator[Hit]:
    for function, node in view.nodes():
        if node.op.type == "cast" or _makes_waves(function, node, _UPSTREAM_STEPS):
            continue
        if any(function.types[name].element == "float32" for name in node.outputs):
            yield hit(
                node,
                "computes in fp32: the Neural Engine has fp16 alone, so the op runs on GPU or "
                "CPU, between two casts",
                "convert at fp16, and scale what fp16 cannot hold (only the sines and cosines of "
                "the timestep stay in fp32 on purpose)",
            )


def _constant(function: FunctionView, name: str, why: str, remedy: str) -> Hit:
    node = function.reader(name)
    if node is None:
        return Hit(f"const {name}", layer_of(name), why, remedy)
    found = hit(node, why, remedy)
    return found._replace(layer=layer_of(name) or found.layer)


def _makes_waves(function: FunctionView, node: Node, steps: int) -> bool:
    """Whether an op is a sine or cosine, or feeds one within a few steps."""
    if node.op.type in _WAVES:
        return True
    readers = [each for name in node.outputs for each in function.consumers.get(name, [])]
    return steps > 0 and any(_makes_waves(function, each, steps - 1) for each in readers)
