"""Ops that the GPU delegate takes and computes wrongly: constants of a higher rank than the data.

The delegate reads every tensor as (batch, height, width, channels) by its own rank: (4, 77, 77)
becomes (4, 1, 77, 77), where a constant (1, 1, 77, 77) asks for (1, 4, 77, 77). It then uses the
first slice for all. The converter makes such pairs: it lowers a batched matmul to rank 3 and folds
the reshape behind it into the next ADD, as in attention with a mask. Equal ranks are right.

Source: measured on LiteRT 2.3.0 (WebGPU); LiteRT issues 8593 and 8980 report it for phones.
"""

from __future__ import annotations

from coreml_sd.runtimes.litert.file import Op, Tensor, TFLiteFile

_ELEMENTWISE = {"ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE", "POW", "MAXIMUM", "MINIMUM"}


def mixed_rank_ops(file: TFLiteFile) -> list[Op]:
    """Elementwise ops in which a constant has more dimensions than the tensor it is joined to."""
    return [op for graph in file.graphs for op in graph.ops if _is_misread(op)]


def _is_misread(op: Op) -> bool:
    if op.kind not in _ELEMENTWISE:
        return False
    constants = [tensor for tensor in op.inputs if tensor is not None and tensor.is_constant]
    computed = [tensor for tensor in op.inputs if tensor is not None and not tensor.is_constant]
    return any(_differ(constant, data) for constant in constants for data in computed)


def _differ(constant: Tensor, data: Tensor) -> bool:
    """A leading 1 on both sides is read alike whatever the rank."""
    if len(constant.shape) <= len(data.shape) or not data.shape:
        return False
    return data.shape[0] != 1 or constant.shape[0] != 1
