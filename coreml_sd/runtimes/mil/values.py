"""Types and values of the MIL protobuf as numpy."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS
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
        UserError: not a tensor, an unknown element type, a flexible dimension, or more axes or
            elements than the limits allow.
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
    require_size(tuple(shape), where, LIMITS.intermediate_elements)
    return element, tuple(shape)


def require_size(shape: tuple[int, ...], where: str, most: int) -> None:
    """Refuse a tensor that is larger than a file may ask for.

    Raises:
        UserError: more elements than `most`, or more axes than the limit.
    """
    if len(shape) > LIMITS.rank or prod(shape) > most:
        raise UserError(
            f"{where}: a tensor of {prod(shape)} elements on {len(shape)} axes; "
            f"at most {most} on {LIMITS.rank} are read"
        )


def check_value(value: Any, where: str) -> None:
    """Look at a Value without reading it.

    Raises:
        UserError: it is of no known kind, or an immediate one does not hold what its type says.
    """
    element, shape = element_and_shape(value.type, where)
    require_size(shape, where, LIMITS.elements)
    kind = value.WhichOneof("value")
    if kind == "blobFileValue":
        if element == "string":
            raise UserError(f"{where}: text in the weight file; convert again")
        return
    if kind != "immediateValue" or value.immediateValue.WhichOneof("value") != "tensor":
        raise UserError(f"{where}: constant of an unknown kind; convert again")
    tensor = value.immediateValue.tensor
    held_as = tensor.WhichOneof("value")
    if held_as is None:
        raise UserError(f"{where}: empty constant; convert again")
    if (element == "string") != (held_as == "strings"):
        raise UserError(f"{where}: {held_as} where its type says {element}; convert again")
    if held_as == "bytes":
        _require_count(len(_from_bytes(tensor.bytes.values, element, where)), shape, where)
    else:
        _require_count(len(getattr(tensor, held_as).values), shape, where)


def read_value(value: Any, open_blob: OpenBlob, where: str) -> Any:
    """A Value: a str, or an array in its declared type and shape (sub-byte: one byte each).

    Raises:
        UserError: as `check_value`, or the weight file holds something else.
    """
    check_value(value, where)
    element, shape = element_and_shape(value.type, where)
    if value.WhichOneof("value") == "blobFileValue":
        blob = open_blob(value.blobFileValue.fileName)
        return blob.read(int(value.blobFileValue.offset), element, shape)
    array = _immediate(value.immediateValue.tensor, element, where)
    if element == "string":
        return str(array[0]) if shape == () else [str(item) for item in array]
    return array.reshape(shape)


def _require_count(held: int, shape: tuple[int, ...], where: str) -> None:
    if held != prod(shape):
        raise UserError(
            f"{where}: constant has {held} elements, its type says {prod(shape)}; convert again"
        )


def _immediate(tensor: Any, element: str, where: str) -> NDArray[Any]:
    kind = tensor.WhichOneof("value")
    if kind == "bytes":
        return _from_bytes(tensor.bytes.values, element, where)
    values = list(getattr(tensor, kind).values)
    if element == "string":
        return np.array(values, dtype=object)
    try:
        return np.array(values, dtype=_numpy_name(element))
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{where}: not {element} ({error}); convert again") from None


def _from_bytes(data: bytes, element: str, where: str) -> NDArray[Any]:
    if element in SUB_BYTE:
        raise UserError(f"{where}: sub-byte constants outside the weight file are not supported")
    if element == "string":
        raise UserError(f"{where}: bytes where its type says string; convert again")
    dtype = np.dtype(element)
    if len(data) % dtype.itemsize:
        raise UserError(f"{where}: {len(data)} bytes of {element}; convert again")
    return np.frombuffer(data, dtype=dtype)


def _numpy_name(element: str) -> str:
    return {"int4": "int8"}.get(element, "uint8" if element in SUB_BYTE else element)
