"""The ops of a package as `coreml_sd.costs.attention_graph` counts them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from coreml_sd.costs.attention_graph import Call
from coreml_sd.runtimes.mil.package import MilPackage, is_constant


def package_calls(path: Path) -> Iterator[list[Call]]:
    """Function by function.

    Raises:
        UserError: the file is damaged.
    """
    for program in MilPackage(path).programs:
        for function in program.functions:
            constants: dict[str, tuple[int, ...]] = {}
            calls = []
            for op in program.operations(function):
                if is_constant(op.type):
                    constants |= {name: shape for name, _, shape in op.outputs}
                    continue
                names = [
                    binding.name
                    for argument in op.proto.inputs.values()
                    for binding in argument.arguments
                    if binding.WhichOneof("binding") == "name"
                ]
                reads = tuple(name for name in names if name not in constants)
                writes = tuple(name for name, _, _ in op.outputs)
                depthwise = op.type == "conv" and _is_depthwise(op, constants)
                shape = op.outputs[0][2]
                calls.append(Call(op.type, reads, writes, shape, depthwise, prod(shape[2:])))
            yield calls


def _is_depthwise(op: Any, constants: dict[str, tuple[int, ...]]) -> bool:
    weight = constants[op.proto.inputs["weight"].arguments[0].name]
    return weight[1] == 1 and weight[0] > 1 and weight[2] > 1
