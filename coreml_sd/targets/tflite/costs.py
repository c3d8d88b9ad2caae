"""Costs of a saved .tflite."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

from coreml_sd.costs.file_costs import FileCosts
from coreml_sd.costs.fillers import is_filler
from coreml_sd.costs.liveness import Call, largest_live
from coreml_sd.errors import UserError
from coreml_sd.runtimes.base import StoredWeight
from coreml_sd.runtimes.litert.file import Graph, Op, Tensor, TFLiteFile

_BYTES = {"float16": 2, "int64": 8, "int16": 2, "int8": 1, "uint8": 1, "bool": 1}
_WIDEST = 4  # float32, int32 and whatever is not known
_SCALE_BYTES = 4
_FLOATS = ("float32", "float16")


def tflite_costs(path: Path) -> FileCosts:
    """Read one .tflite and count.

    Parameters are the values of floating or quantized constants, each buffer once; those that
    are one value throughout are fillers (the zero bias that a convolution must have, a factor of
    a rewrite) and do not count. A weight that the file widens before its use (DEQUANTIZE) is an
    intermediate from there to its use.

    Raises:
        UserError: the file is damaged, or the extra `android` is not installed.
    """
    file = TFLiteFile(path)
    try:
        weights = [(weight, tensor) for weight, tensor in _weights(file)]
        return FileCosts(
            path.name,
            sum(tensor.elements for _, tensor in weights),
            sum(_macs(file, op) for graph in file.graphs for op in graph.ops),
            file.weight_bytes(),
            max((_live_bytes(graph) for graph in file.graphs), default=0),
            file.op_counts(),
            tuple(weight for weight, tensor in weights if len(tensor.shape) > 1),
        )
    except (IndexError, AttributeError) as error:  # an op without an input that its kind has
        raise UserError(f"{path}: damaged ({error}); convert again") from None


def _weights(file: TFLiteFile) -> Iterator[tuple[StoredWeight, Tensor]]:
    """Every constant that holds weights, under the layer of the first op that reads it."""
    seen: set[int] = set()
    for graph in file.graphs:
        for op in graph.ops:
            for tensor in op.inputs:
                if tensor is None or not tensor.is_constant or tensor.buffer in seen:
                    continue
                seen.add(tensor.buffer)
                if tensor.scales or (tensor.dtype in _FLOATS and not is_filler(file.data(tensor))):
                    yield _stored(tensor, op.layer or tensor.name), tensor


def _stored(tensor: Tensor, name: str) -> StoredWeight:
    bits = round(8 * tensor.stored_bytes / max(1, tensor.elements))
    size = tensor.stored_bytes + _SCALE_BYTES * tensor.scales
    return StoredWeight(name, tensor.dtype, bits, size, tensor.shape)


def _macs(file: TFLiteFile, op: Op) -> int:
    """Multiply-accumulates of one op: results times the products that each one sums."""
    if op.kind == "CONV_2D":  # weights (out, height, width, in)
        summed = prod(_shape(op, 1)[1:])
    elif op.kind == "DEPTHWISE_CONV_2D":  # weights (1, height, width, channels)
        summed = prod(_shape(op, 1)[1:3])
    elif op.kind == "FULLY_CONNECTED":  # weights (out, in)
        summed = _shape(op, 1)[-1]
    elif op.kind == "BATCH_MATMUL":
        summed = _shape(op, 0)[-2 if file.option(op, "AdjX", False) else -1]
    else:
        return 0
    return op.outputs[0].elements * summed


def _shape(op: Op, index: int) -> tuple[int, ...]:
    tensor = op.inputs[index]
    if tensor is None:
        raise IndexError(f"{op.kind} #{op.index} lacks input {index}")
    return tensor.shape


def _live_bytes(graph: Graph) -> int:
    """Inputs, which stay, and the largest set of live intermediates."""
    calls = [
        Call(
            [tensor.index for tensor in op.inputs if tensor is not None],
            {tensor.index: _bytes(tensor) for tensor in op.outputs},
        )
        for op in graph.ops
    ]
    outputs = [tensor.index for tensor in graph.outputs]
    return largest_live(calls, outputs) + sum(_bytes(tensor) for tensor in graph.inputs)


def _bytes(tensor: Tensor) -> int:
    return tensor.elements * _BYTES.get(tensor.dtype, _WIDEST)
