"""The value of a constant in coremltools' programs, which the library has no way to change."""

from __future__ import annotations

from typing import Any


def put_value(op: Any, value: Any) -> None:
    """Give a `const` op of a program another array of the same shape and type, as it is: the
    library's own way would copy it into memory."""
    for var in (op.outputs[0], op.val):  # the second is what passes infer the first from
        var._sym_val.val = value
