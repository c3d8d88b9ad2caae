"""The ops of a .tflite as `coreml_sd.costs.attention_graph` counts them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

from coreml_sd.costs.attention_graph import Call
from coreml_sd.runtimes.litert.file import TFLiteFile


def file_calls(path: Path) -> Iterator[list[Call]]:
    """Graph by graph.

    Raises:
        UserError: the file is damaged, or the extra `android` is not installed.
    """
    for graph in TFLiteFile(path).graphs:
        constants = {tensor.index for tensor in graph.tensors if tensor.is_constant}
        calls = []
        for op in graph.ops:
            given = [tensor.index for tensor in op.inputs if tensor is not None]
            reads = tuple(str(index) for index in given if index not in constants)
            if not reads:  # a weight on its way to its op
                constants |= {tensor.index for tensor in op.outputs}
                continue
            writes = tuple(str(tensor.index) for tensor in op.outputs)
            depthwise = op.kind == "DEPTHWISE_CONV_2D"
            shape = op.outputs[0].shape
            calls.append(Call(op.kind, reads, writes, shape, depthwise, prod(shape[1:3])))
        yield calls
