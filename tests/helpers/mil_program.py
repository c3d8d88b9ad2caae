"""Programs of a few ops, written as a file holds them: also those that no converter would write."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from coremltools.proto import Model_pb2

MODEL = "com.apple.CoreML/model.mlmodel"
_CODES = {"float32": 11, "float16": 10, "int32": 23, "bool": 1, "uint8": 31, "str": 2}
_HELD = {"float32": "floats", "int32": "ints", "bool": "bools"}
_RECORD_CODES = {"float16": 1, "float32": 2, "uint8": 3}


@dataclass(frozen=True)
class Blob:
    """A value in the weight file."""

    values: np.ndarray
    shape: tuple[int, ...] | None = None  # what the program declares, where it is another
    file: str = "@model_path/weights/weight.bin"


@dataclass(frozen=True)
class Op:
    """One op: a parameter is the name of a value, a list of names, or a value."""

    type: str
    outputs: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    element: str = "float32"


def write_package(
    path: Path,
    ops: Sequence[Op],
    outputs: Sequence[str],
    inputs: Mapping[str, tuple[int, ...]] | None = None,
    root: str = MODEL,
) -> Path:
    """A package with these ops; `root` is where its manifest says that the model lies."""
    model = Model_pb2.Model()
    model.specificationVersion = 8
    function = model.mlProgram.functions["main"]
    function.opset = "CoreML7"
    block = function.block_specializations["CoreML7"]
    weights = bytearray(struct.pack("<II", 0, 2).ljust(64, b"\0"))
    for name, shape in (inputs or {"x": (1, 4)}).items():
        entry = function.inputs.add(name=name)
        _declare(entry.type, "float32", shape)
    for op in ops:
        _add(block.operations.add(), op, weights)
    block.outputs.extend(outputs)
    data = path / "Data/com.apple.CoreML"
    (data / "weights").mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(model.SerializeToString())
    (data / "weights/weight.bin").write_bytes(bytes(weights))
    entries = {"itemInfoEntries": {"1": {"path": root}}, "rootModelIdentifier": "1"}
    (path / "Manifest.json").write_text(json.dumps(entries))
    return path


def _add(proto: Any, op: Op, weights: bytearray) -> None:
    proto.type = op.type
    for key, value in op.attributes.items():
        _fill(proto.attributes[key], value, weights)
    for key, value in op.inputs.items():
        for each in value if isinstance(value, list) else [value]:
            binding = proto.inputs[key].arguments.add()
            if isinstance(each, str):
                binding.name = each
            else:
                _fill(binding.value, each, weights)
    for name, shape in op.outputs.items():
        _declare(proto.outputs.add(name=name).type, op.element, shape)


def _fill(value: Any, given: Any, weights: bytearray) -> None:
    if isinstance(given, Blob):
        name = given.values.dtype.name
        shape = given.values.shape if given.shape is None else given.shape
        _declare(value.type, name, shape)
        value.blobFileValue.fileName = given.file
        value.blobFileValue.offset = len(weights)
        payload = given.values.tobytes()
        head = struct.pack(
            "<IIQQQ", 0xDEADBEEF, _RECORD_CODES[name], len(payload), len(weights) + 64, 0
        )
        weights += head.ljust(64, b"\0") + payload + b"\0" * (-len(payload) % 64)
        return
    if isinstance(given, bytes):  # a text
        _declare(value.type, "str", ())
        value.immediateValue.tensor.strings.values.append(given.decode())
        return
    array = np.asarray(given)
    array = array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))
    _declare(value.type, array.dtype.name, array.shape)
    held = getattr(value.immediateValue.tensor, _HELD[array.dtype.name])
    held.values.extend(array.reshape(-1).tolist())


def _declare(kind: Any, element: str, shape: Sequence[int]) -> None:
    kind.tensorType.dataType = _CODES[element]
    kind.tensorType.rank = len(shape)
    for side in shape:
        kind.tensorType.dimensions.add().constant.size = side
