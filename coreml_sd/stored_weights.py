"""Where a saved package keeps the weight of each layer, found by reading the package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coreml_sd.compress.verify import StoredPayload
from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.mil import MilPackage
from coreml_sd.runtimes.mil.values import read_value


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
        op = operations.get(name)
        if op is None or op.type not in ("const", "constexpr_lut_to_dense"):
            raise CoremlSDError(f"{package.path}: no weight {name} of {parameter}")
        values = _values(op)
        held = values["val" if op.type == "const" else "indices"].blobFileValue
        blob = package.open_blob(held.fileName)
        record = blob.record(int(held.offset))
        lut = None
        if op.type != "const":
            lut = read_value(values["lut"], package.open_blob, name)
        found[parameter] = StoredPayload(
            blob.path, record.offset, record.bytes, record.element, lut
        )
    return found


def _values(op: Any) -> dict[str, Any]:
    """Values that stand in the op itself, wherever its version of the format has them."""
    values = dict(op.proto.attributes)
    for key, argument in op.proto.inputs.items():
        values[key] = argument.arguments[0].value
    return values
