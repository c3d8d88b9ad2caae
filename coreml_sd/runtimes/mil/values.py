"""Types and values of the MIL protobuf as numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from coreml_sd.runtimes.mil.blob import BlobFile

# MIL data type codes (MIL.proto) to the element names used here.
_ELEMENTS = {
    1: "bool",
    2: "string",
    10: "float16",
    11: "float32",
    12: "float64",
    21: "int8",
    22: "int16",
    23: "int32",
    24: "int64",
    25: "int4",
    31: "uint8",
    32: "uint16",
    33: "uint32",
    34: "uint64",
    35: "uint4",
    36: "uint2",
    37: "uint1",
    38: "uint6",
    39: "uint3",
}
SUB_BYTE = {"int4": 4, "uint4": 4, "uint2": 2, "uint1": 1, "uint6": 6, "uint3": 3}

OpenBlob = Callable[[str], BlobFile]


def element_and_shape(value_type: Any, where: str) -> tuple[str, tuple[int, ...]]:
    """Element name and static shape of a ValueType.

    Raises:
        UserError: not a tensor, an unknown element type, or a flexible dimension.
    """
    if value_type.WhichOneof("type") != "tensorType":
        raise UserError(f"{where}: not a tensor; the evaluator cannot run this file")
    tensor = value_type.tensorType
    element = _ELEMENTS.get(tensor.dataType)
    if element is None:
        raise UserError(f"{where}: unknown data type {tensor.dataType}")
    shape = []
    for dimension in tensor.dimensions:
        if dimension.WhichOneof("dimension") != "constant":
            raise UserError(f"{where}: flexible shapes are not supported; convert at fixed sizes")
        shape.append(int(dimension.constant.size))
    return element, tuple(shape)


def read_value(value: Any, open_blob: OpenBlob, where: str) -> Any:
    """A Value: a str, or an array in its declared type and shape (sub-byte: one byte each)."""
    element, shape = element_and_shape(value.type, where)
    kind = value.WhichOneof("value")
    if kind == "blobFileValue":
        blob = open_blob(value.blobFileValue.fileName)
        return blob.read(int(value.blobFileValue.offset), element, shape)
    if kind != "immediateValue" or value.immediateValue.WhichOneof("value") != "tensor":
        raise UserError(f"{where}: constant of an unknown kind")
    array = _immediate(value.immediateValue.tensor, element, where)
    if element == "string":
        return str(array[0]) if shape == () else [str(item) for item in array]
    count = int(np.prod(shape, dtype=np.int64))
    if array.size != count:
        raise UserError(f"{where}: constant has {array.size} elements, its type says {count}")
    return array.reshape(shape)


def _immediate(tensor: Any, element: str, where: str) -> NDArray[Any]:
    kind = tensor.WhichOneof("value")
    if kind == "bytes":
        return _from_bytes(tensor.bytes.values, element, where)
    if kind is None:
        raise UserError(f"{where}: empty constant")
    values = list(getattr(tensor, kind).values)
    if element == "string":
        return np.array(values, dtype=object)
    return np.array(values, dtype=_numpy_name(element))


def _from_bytes(data: bytes, element: str, where: str) -> NDArray[Any]:
    if element in SUB_BYTE:
        raise UserError(f"{where}: sub-byte constants outside the weight file are not supported")
    return np.frombuffer(data, dtype=np.dtype(element))


def _numpy_name(element: str) -> str:
    return {"int4": "int8"}.get(element, "uint8" if element in SUB_BYTE else element)
