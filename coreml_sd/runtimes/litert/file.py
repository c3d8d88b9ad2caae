"""A .tflite file read as data: signatures, graphs, ops and stored weights; nothing is executed."""

from __future__ import annotations

import functools
import mmap
import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from coreml_sd.files.foreign import open_regular
from coreml_sd.files.limits import LIMITS
from coreml_sd.runtimes.litert.extra import require_android
from coreml_sd.runtimes.litert.verify import require_whole
from coreml_sd.upstream.flatbuffers_vectors import data_span

_IDENTIFIER = b"TFL3"
_NUMPY: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}
# The fewest axes of the inputs that an op of a kind must have; of others one input of any.
_LEAST_AXES: dict[str, tuple[int, ...]] = {
    "CONV_2D": (4, 4),
    "DEPTHWISE_CONV_2D": (4, 4),
    "TRANSPOSE_CONV": (1, 4, 4),
    "FULLY_CONNECTED": (1, 1),
    "BATCH_MATMUL": (2,),
    "EMBEDDING_LOOKUP": (0, 1),
    "GATHER": (0, 0),
}
_WITHOUT_OPERANDS = ("CALL_ONCE", "VAR_HANDLE", "ASSIGN_VARIABLE")
# What reading tables of flipped bits raises.
_DAMAGE = (struct.error, IndexError, KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Tensor:
    """One tensor of a graph. `stored_bytes` is 0 for what is computed; `scales` counts the scales
    of a quantized weight (0: not quantized), along `scale_axis`; a dynamic one has a size that is
    known only when it runs."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    stored_bytes: int
    scales: int
    scale_axis: int
    buffer: int
    is_dynamic: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether its values stand in the file."""
        return self.stored_bytes > 0

    @property
    def elements(self) -> int:
        """How many values it holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class Op:
    """One op of a graph: `kind` as TFLite names it (CONV_2D), a custom op by its own name; `layer`
    is the module of the source that it was made from; `options` are the schema's, or None."""

    index: int
    kind: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    layer: str
    options: Any


@dataclass(frozen=True)
class Graph:
    """One graph: ops in running order over its tensors."""

    name: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Signature:
    """A named entry: input and output names with their tensors."""

    key: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class TFLiteFile:
    """One .tflite, mapped into memory, so that reading the graph of a 3 GB file costs little.

    Raises:
        UserError: the file is missing or damaged, or the extra `android` is not installed.
    """

    def __init__(self, path: Path) -> None:
        require_android()
        self.path = path
        try:
            with open_regular(path) as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error}); convert again") from None
        if self._bytes[4:8] != _IDENTIFIER:
            raise UserError(f"{path}: not a TFLite file; convert again")
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        try:
            require_whole(self._bytes)
            self._model = schema.Model.GetRootAs(self._bytes, 0)
        except _DAMAGE as error:
            raise UserError(f"{path}: damaged ({error}); convert again") from None

    @functools.cached_property
    def graphs(self) -> tuple[Graph, ...]:
        """All graphs, the main one first.

        Raises:
            UserError: the tables point outside the file.
        """
        try:
            return tuple(self._graph(i) for i in range(self._model.SubgraphsLength()))
        except _DAMAGE as error:
            raise UserError(f"{self.path}: damaged ({error}); convert again") from None

    @functools.cached_property
    def signatures(self) -> tuple[Signature, ...]:
        """All signatures.

        Raises:
            UserError: the tables point outside the file.
        """
        try:
            return tuple(self._signature(i) for i in range(self._model.SignatureDefsLength()))
        except _DAMAGE as error:
            raise UserError(f"{self.path}: damaged ({error}); convert again") from None

    def op_counts(self) -> dict[str, int]:
        """Ops by kind over all graphs, most frequent first."""
        kinds = Counter(op.kind for graph in self.graphs for op in graph.ops)
        return dict(kinds.most_common())

    def option(self, op: Op, name: str, default: Any) -> Any:
        """One option of an op, for example `Beta`; `default` where it has no options.

        Raises:
            UserError: the op carries options of another kind.
        """
        try:
            return default if op.options is None else getattr(op.options, name)()
        except _DAMAGE as error:
            where = f"{self.path}: {op.kind} #{op.index}"
            raise UserError(f"{where}: damaged options ({error}); convert again") from None

    def weight_bytes(self) -> int:
        """Bytes of all stored tensors, each buffer once."""
        sizes = {t.buffer: t.stored_bytes for graph in self.graphs for t in graph.tensors}
        return sum(sizes.values())

    def data(self, tensor: Tensor) -> NDArray[Any]:
        """The stored values of a constant, in its own dtype.

        Raises:
            UserError: the tensor is computed, or its dtype is not read here.
        """
        if not tensor.is_constant or tensor.dtype not in _NUMPY:
            raise UserError(f"{self.path}: {tensor.name} ({tensor.dtype}) has no readable values")
        try:
            begin, size = self._span(tensor.buffer)
        except _DAMAGE as error:
            raise UserError(f"{self.path}: damaged ({error}); convert again") from None
        dtype = _NUMPY[tensor.dtype]
        if begin + size > len(self._bytes) or size != tensor.elements * dtype.itemsize:
            raise UserError(f"{self.path}: {tensor.name} is truncated; convert again")
        values: NDArray[Any] = np.frombuffer(self._bytes, dtype, tensor.elements, begin)
        return values.reshape(tensor.shape)

    def _span(self, buffer: int) -> tuple[int, int]:
        """Offset and size of a buffer: inside the tables, or behind them in large files."""
        entry = self._model.Buffers(buffer)
        if entry.Offset() > 1:
            return int(entry.Offset()), int(entry.Size())
        return data_span(entry)

    def _graph(self, index: int) -> Graph:
        source = self._model.Subgraphs(index)
        tensors = tuple(self._tensor(i, source.Tensors(i)) for i in range(source.TensorsLength()))
        ops = tuple(
            self._op(i, source.Operators(i), tensors) for i in range(source.OperatorsLength())
        )
        return Graph(
            (source.Name() or b"").decode(),
            tensors,
            ops,
            tuple(tensors[i] for i in _indices(source.InputsAsNumpy())),
            tuple(tensors[i] for i in _indices(source.OutputsAsNumpy())),
        )

    def _signature(self, index: int) -> Signature:
        entry = self._model.SignatureDefs(index)
        tensors = self.graphs[entry.SubgraphIndex()].tensors
        inputs = [entry.Inputs(j) for j in range(entry.InputsLength())]
        outputs = [entry.Outputs(j) for j in range(entry.OutputsLength())]
        names = [each.Name().decode() for each in (*inputs, *outputs)]
        if len(set(names)) < len(names) or any("\0" in name or not name for name in names):
            raise ValueError("names of inputs and outputs that cannot be told apart")
        return Signature(
            entry.SignatureKey().decode(),
            {each.Name().decode(): tensors[each.TensorIndex()] for each in inputs},
            {each.Name().decode(): tensors[each.TensorIndex()] for each in outputs},
        )

    def _tensor(self, index: int, source: Any) -> Tensor:
        quantization = source.Quantization()
        shape = _indices(source.ShapeAsNumpy())
        if len(shape) > LIMITS.rank or prod(map(abs, shape)) > LIMITS.intermediate_elements:
            raise ValueError(f"tensor {index} has {len(shape)} axes, {prod(shape)} elements")
        return Tensor(
            index,
            source.Name().decode(errors="replace"),
            tuple(shape),
            _names(self._schema.TensorType)[source.Type()].lower(),
            self._span(source.Buffer())[1],
            quantization.ScaleLength() if quantization else 0,
            quantization.QuantizedDimension() if quantization else 0,
            source.Buffer(),
            any(size < 0 for size in _indices(source.ShapeSignatureAsNumpy())),
        )

    def _op(self, index: int, source: Any, tensors: tuple[Tensor, ...]) -> Op:
        code = self._model.OperatorCodes(source.OpcodeIndex())
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        kind = _names(self._schema.BuiltinOperator)[builtin]
        if code.CustomCode():
            kind = code.CustomCode().decode()
        outputs = tuple(tensors[i] for i in _indices(source.OutputsAsNumpy()))
        inputs = tuple(tensors[i] if i >= 0 else None for i in _indices(source.InputsAsNumpy()))
        _require_operands(f"{kind} #{index}", kind, inputs, outputs)
        layer = _layer(outputs[0].name) if outputs else ""
        return Op(index, kind, inputs, outputs, layer, self._options(source))

    def _options(self, source: Any) -> Any:
        """The op's option table under its own class, for example `Conv2DOptions`."""
        name = _names(self._schema.BuiltinOptions).get(source.BuiltinOptionsType(), "NONE")
        table = source.BuiltinOptions()
        if name == "NONE" or table is None:
            return None
        options = getattr(self._schema, name)()
        options.Init(table.Bytes, table.Pos)
        return options


def _require_operands(
    where: str, kind: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]
) -> None:
    """Hold an op against what every reader takes for granted of its kind."""
    least = _LEAST_AXES.get(kind, () if kind in _WITHOUT_OPERANDS else (0,))
    for number, axes in enumerate(least):
        given = inputs[number] if number < len(inputs) else None
        if given is None or len(given.shape) < axes:
            raise ValueError(f"{where} lacks input {number}, or one of {axes} axes")
    if not outputs and kind not in _WITHOUT_OPERANDS:
        raise ValueError(f"{where} has no output")


@functools.cache
def _names(kind: Any) -> dict[int, str]:
    """Number -> name of one of the schema's enumerations."""
    return {value: name for name, value in vars(kind).items() if isinstance(value, int)}


def _indices(values: Any) -> list[int]:
    return [] if isinstance(values, int) else [int(value) for value in values]


def _layer(name: str) -> str:
    """The module path in a tensor's name: `..MobileResnet_0/..Conv2d_conv1;` gives `0.conv1`.

    The exporter joins the class and the attribute of every module on the way with slashes.
    """
    parts = name.split(";")[0].split("/")
    attributes = [re.sub(r"^.*?\.?[A-Z][A-Za-z0-9]*_", "", part) for part in parts[1:]]
    return ".".join(attribute for attribute in attributes if attribute) or parts[0]
