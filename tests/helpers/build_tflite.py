"""Writes small .tflite files op by op, so that every rule can be broken precisely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int64": schema.TensorType.INT64,
    "int32": schema.TensorType.INT32,
    "int16": schema.TensorType.INT16,
    "int8": schema.TensorType.INT8,
    "bool": schema.TensorType.BOOL,
}


class GraphWriter:
    """One graph: `x = g.input(..); y = g.op("TANH", [x], (1, 4)); g.write(path, [y])`."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.buffers = [schema.BufferT()]  # the first one is empty: computed tensors
        self.operators: list[Any] = []
        self.codes: list[Any] = []
        self.inputs: list[int] = []

    def input(self, shape: tuple[int, ...], dtype: str = "float32", **options: Any) -> int:
        """An input of the graph."""
        self.inputs.append(self._tensor(shape, dtype, 0, **options))
        return self.inputs[-1]

    def constant(self, values: Any, dtype: str = "float32", **options: Any) -> int:
        """A tensor whose values stand in the file."""
        array = np.asarray(values, dtype=dtype)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self.buffers.append(buffer)
        return self._tensor(array.shape, dtype, len(self.buffers) - 1, **options)

    def op(
        self,
        kind: str,
        inputs: list[int],
        shape: tuple[int, ...],
        dtype: str = "float32",
        options: Any = None,
        **tensor: Any,
    ) -> int:
        """An op with one result; `options` is an object of the schema, such as Conv2DOptionsT."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(kind)
        operator.inputs = inputs
        operator.outputs = [self._tensor(shape, dtype, 0, **tensor)]
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = options
        self.operators.append(operator)
        return int(operator.outputs[0])

    def write(self, path: Path, outputs: list[int]) -> Path:
        """Save the file."""
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs, graph.outputs = self.inputs, outputs
        model = schema.ModelT()
        model.version, model.description = 3, "test"
        model.operatorCodes, model.subgraphs, model.buffers = self.codes, [graph], self.buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path

    def _code(self, kind: str) -> int:
        code = schema.OperatorCodeT()
        code.version = 1
        code.builtinCode = getattr(schema.BuiltinOperator, kind, schema.BuiltinOperator.CUSTOM)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        if code.builtinCode == schema.BuiltinOperator.CUSTOM:
            code.customCode = kind
        self.codes.append(code)
        return len(self.codes) - 1

    def _tensor(
        self,
        shape: tuple[int, ...],
        dtype: str,
        buffer: int,
        *,
        name: str = "",
        dynamic: bool = False,
    ) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(shape), TYPES[dtype], buffer
        tensor.name = name or f"net.Net/net.Layer_block{len(self.tensors)};"
        if dynamic:
            tensor.shapeSignature = [-1, *shape[1:]]
        self.tensors.append(tensor)
        return len(self.tensors) - 1
