"""Where a saved package keeps the weight of each layer, found by reading the package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coreml_sd.compress.verify import StoredPayload
from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.mil import MilPackage
from coreml_sd.runtimes.mil.package import Operation
from coreml_sd.runtimes.mil.values import read_value

_HOLDERS = {"const": "val", "constexpr_lut_to_dense": "indices"}


def stored_payloads(package: MilPackage, names: Mapping[str, str]) -> dict[str, StoredPayload]:
    """The payload of each parameter.

    Args:
        names: the name of each parameter's weight in the program.

    Raises:
        CoremlSDError: the program has no such weight.
        UserError: the weight file is damaged.
    """
    operations = {op.outputs[0][0]: op for op in package.programs[0].operations()}
    found = {}
    for parameter, name in names.items():
        payload = payload_of(package, operations[name]) if name in operations else None
        if payload is None:
            raise CoremlSDError(f"{package.path}: no weight {name} of {parameter}")
        found[parameter] = payload
    return found


def payload_of(package: MilPackage, op: Operation) -> StoredPayload | None:
    """What an op keeps in the weight file; None where it is no weight, or stands in the program.

    Raises:
        UserError: the weight file is damaged.
    """
    if op.type not in _HOLDERS:
        return None
    values = _values(op)
    held = values.get(_HOLDERS[op.type])
    if held is None or held.WhichOneof("value") != "blobFileValue":
        return None
    blob = package.open_blob(held.blobFileValue.fileName)
    record = blob.record(int(held.blobFileValue.offset))
    lut = None
    if op.type != "const":
        lut = read_value(values["lut"], package.open_blob, op.name)
    return StoredPayload(blob.path, record.offset, record.bytes, record.element, lut)


def _values(op: Operation) -> dict[str, Any]:
    """Values that stand in the op itself, wherever its version of the format has them."""
    values = dict(op.proto.attributes)
    for key, argument in op.proto.inputs.items():
        values[key] = argument.arguments[0].value
    return values
