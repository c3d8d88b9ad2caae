"""One walk over a program from elsewhere: what every reader of it takes for granted.

A reader then finds each parameter that an op needs, each name made before it is used, and sizes
within the limits. Whether the shapes follow from the ops is asked in `predicted_shapes`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS
from coreml_sd.runtimes.mil.constexpr import DECODERS
from coreml_sd.runtimes.mil.ops import OPS
from coreml_sd.runtimes.mil.values import check_value, element_and_shape, require_size

_LIST = "values"  # the parameter that takes several tensors
_MANY_OPS = 1_000_000


def check_function(path: str, name: str, proto: Any) -> None:
    """Check one function of a program.

    Args:
        path: how errors name the package.

    Raises:
        UserError: names the op and what is wrong with it.
    """
    if proto.opset not in proto.block_specializations:
        raise _damaged(f"{path}: function {name}", f"has no block for {proto.opset or 'an opset'}")
    block = proto.block_specializations[proto.opset]
    if not block.outputs:
        raise _damaged(f"{path}: function {name}", "gives no outputs")
    if len(block.operations) > _MANY_OPS:
        raise _damaged(f"{path}: function {name}", f"has {len(block.operations)} ops")
    made: dict[str, bool] = {}  # name -> whether its value stands in the file
    for entry in proto.inputs:
        where = f"{path}: input {entry.name}"
        _check_shape(entry.type, where, constant=False)
        require_size(element_and_shape(entry.type, where)[1], where, LIMITS.elements)
        _make(made, entry.name, False, where)
    for op in block.operations:
        _check_op(path, op, made)
    for output in block.outputs:
        if output not in made:
            raise _damaged(f"{path}: output {output}", "is not made")
    ends = {*block.outputs}
    for op in block.operations:
        for output in (each for each in op.outputs if each.name in ends):
            _, shape = element_and_shape(output.type, path)
            require_size(shape, f"{path}: output {output.name}", LIMITS.elements)


def _check_op(path: str, op: Any, made: dict[str, bool]) -> None:
    if not op.outputs:
        raise _damaged(f"{path}: an op {op.type}", "gives nothing")
    label = op_label(op)
    where = f"{path}: op {label}"
    if op.blocks:
        raise UserError(f"{where} has control flow; not supported")
    constant = op.type == "const" or op.type in DECODERS
    for key, value in op.attributes.items():
        if key != "name":
            check_value(value, f"{where}: {key}")
    for key, argument in op.inputs.items():
        _check_argument(argument, f"{where}: {key}", key, made, constant)
    for output in op.outputs:
        _check_shape(output.type, where, constant)
        _make(made, output.name, constant, where)
    _check_parameters(op, where)
    if op.type == "const" and op.attributes["val"].type != op.outputs[0].type:
        raise _damaged(where, "declares another type than its value has")


def _check_shape(kind: Any, where: str, constant: bool) -> None:
    """Only a list that stands in the file may be empty, and only an intermediate large."""
    _, shape = element_and_shape(kind, where)
    if constant:
        require_size(shape, where, LIMITS.elements)
    if 0 in shape and not (constant and len(shape) == 1):
        raise _damaged(where, f"is empty ({shape})")


def _check_argument(
    argument: Any, where: str, key: str, made: dict[str, bool], constant: bool
) -> None:
    bindings = argument.arguments
    if not bindings or (len(bindings) > 1 and key != _LIST):
        raise _damaged(where, f"has {len(bindings)} values")
    for binding in bindings:
        kind = binding.WhichOneof("binding")
        if kind == "value":
            check_value(binding.value, where)
        elif kind is None:
            raise _damaged(where, "has no value")
        elif binding.name not in made:
            raise _damaged(where, f"{binding.name} is used before it is made")
        elif constant and not made[binding.name]:
            raise _damaged(where, f"{binding.name} does not stand in the file")


def _check_parameters(op: Any, where: str) -> None:
    given = {*op.inputs, *(key for key in op.attributes if key != "name")}
    if op.type == "const":
        needed, known = frozenset({"val"}), frozenset({"val"})
    elif op.type in DECODERS:
        needed, known = _parameters(DECODERS[op.type])
    elif op.type in OPS:
        given = set(op.inputs)
        needed, known = _parameters(OPS[op.type].function)
    else:
        return  # the evaluator names it; other readers do without
    if missing := sorted(needed - given):
        raise _damaged(f"{where} ({op.type})", f"lacks {missing[0]}")
    if unknown := sorted(given - known):
        raise _damaged(f"{where} ({op.type})", f"has an unknown parameter {unknown[0]}")
    if op.type == "const" and (op.inputs or len(op.outputs) != 1):
        raise _damaged(where, "is a constant of an unknown kind")


@functools.cache
def _parameters(function: Callable[..., Any]) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the parameters that a function must be given, and of all."""
    known = inspect.signature(function).parameters
    needed = [name for name, each in known.items() if each.default is inspect.Parameter.empty]
    return frozenset(needed), frozenset(known)


def op_label(op: Any) -> str:
    """The op's own name, or that of its first result."""
    if "name" in op.attributes:
        named = op.attributes["name"].immediateValue.tensor.strings.values
        if named:
            return str(named[0])
    return str(op.outputs[0].name)


def _make(made: dict[str, bool], name: str, constant: bool, where: str) -> None:
    if not name or name in made:
        raise _damaged(where, f"makes {name!r} again" if name else "has no name")
    made[name] = constant


def _damaged(where: str, what: str) -> UserError:
    return UserError(f"{where}: {what}; the file is damaged: convert again")
