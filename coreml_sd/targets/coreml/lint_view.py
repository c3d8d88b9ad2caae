"""An .mlpackage as its rules see it: computing ops with their sizes, neighbours and layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from coreml_sd.lint.fp16 import peak
from coreml_sd.lint.rule import Hit, RuleSet
from coreml_sd.runtimes.mil.package import MilPackage, Operation, Program, is_constant
from coreml_sd.runtimes.mil.values import element_and_shape, read_value

FLOATS = ("float16", "float32")
_BYTES = {"float16": 2, "float32": 4}
_WEIGHT_MARK = "_weight"


class Type(NamedTuple):
    """Element and shape of a value; whether it stands in the file."""

    element: str
    shape: tuple[int, ...]
    constant: bool

    @property
    def bytes(self) -> int:
        """Bytes of a floating value in memory; 0 for the other ones, which are small."""
        return _BYTES.get(self.element, 0) * int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Node:
    """One computing op. `inputs` are the values it reads by parameter, `layer` is the layer of
    the last weight that was read at or before it."""

    op: Operation
    layer: str
    inputs: dict[str, list[str]]

    @property
    def outputs(self) -> list[str]:
        """Names of its results."""
        return [name for name, _, _ in self.op.outputs]


class FunctionView:
    """One function of a program."""

    def __init__(self, package: MilPackage, program: Program, name: str) -> None:
        self.package = package
        self.operations = tuple(program.operations(name))
        self.types: dict[str, Type] = {}
        for entry in program.function(name).inputs:
            self.types[entry.name] = Type(*element_and_shape(entry.type, entry.name), False)
        for op in self.operations:
            constant = is_constant(op.type)
            for value, element, shape in op.outputs:
                self.types[value] = Type(element, shape, constant)
        self.inputs = [entry.name for entry in program.function(name).inputs]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The computing ops, in order."""
        found, layer = [], ""
        for op in self.operations:
            if not is_constant(op.type):
                inputs = _names(op)
                layer = _layer(inputs.get("weight", [])) or layer
                found.append(Node(op, layer, inputs))
        return tuple(found)

    @cached_property
    def consumers(self) -> dict[str, list[Node]]:
        """Which ops read a value."""
        readers: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for names in node.inputs.values():
                for name in names:
                    readers[name].append(node)
        return readers

    def values(self, node: Node, key: str) -> list[Type]:
        """Types of what an op reads as one parameter."""
        return [self.types[name] for name in node.inputs.get(key, []) if name in self.types]

    def constant(self, node: Node, key: str) -> Any:
        """The value of a parameter that stands in the file; None where there is none."""
        argument = node.op.proto.inputs.get(key)
        if argument is None:
            return None
        binding = argument.arguments[0]
        if binding.WhichOneof("binding") == "value":
            return self._read(binding.value, node.op)
        proto = self._constants.get(binding.name)
        return None if proto is None else self._read(proto, node.op)

    def _read(self, value: Any, op: Operation) -> Any:
        return read_value(value, self.package.open_blob, f"{self.package.path}: op {op.name}")

    @cached_property
    def _constants(self) -> dict[str, Any]:
        return {
            op.outputs[0][0]: op.proto.attributes["val"]
            for op in self.operations
            if op.type == "const"
        }

    @cached_property
    def peaks(self) -> list[tuple[str, float]]:
        """Name and largest magnitude of every floating array that stands in the file. Compressed
        weights are not decoded: a palette reaches as far as the weights that it makes."""
        return [
            (op.outputs[0][0], peak(self._read(value, op)))
            for op in self.operations
            if is_constant(op.type)
            for value in _stored_values(op)
        ]

    def reader(self, constant: str) -> Node | None:
        """The first computing op that reads a constant, directly or decoded."""
        names, found = {constant}, None
        for op in self.operations:
            read = {name for values in _names(op).values() for name in values}
            if names & read and is_constant(op.type):
                names.add(op.outputs[0][0])
        for name in names:
            found = found or next(iter(self.consumers.get(name, [])), None)
        return found


class MilView:
    """One package: all functions of all its programs."""

    def __init__(self, package: MilPackage) -> None:
        self.package = package

    @cached_property
    def functions(self) -> tuple[FunctionView, ...]:
        """Every function, in running order."""
        return tuple(
            FunctionView(self.package, program, name)
            for program in self.package.programs
            for name in program.functions
        )

    def nodes(self, *kinds: str) -> Iterator[tuple[FunctionView, Node]]:
        """Every computing op of the given kinds (of all kinds when none is given), in order."""
        for function in self.functions:
            for node in function.nodes:
                if not kinds or node.op.type in kinds:
                    yield function, node


def hit(node: Node, why: str, remedy: str) -> Hit:
    """A rule broken at an op."""
    return Hit(f"{node.op.type} {node.op.name}", node.layer, why, remedy)


def layer_of(constant: str) -> str:
    """The layer in the name of a weight: `conv_in_weight_to_fp16` gives `conv_in`."""
    return constant.partition(_WEIGHT_MARK)[0] if _WEIGHT_MARK in constant else ""


def _layer(weights: list[str]) -> str:
    return layer_of(weights[0]) if weights else ""


def _names(op: Operation) -> dict[str, list[str]]:
    return {
        key: [each.name for each in argument.arguments if each.WhichOneof("binding") == "name"]
        for key, argument in op.proto.inputs.items()
    }


def _stored_values(op: Operation) -> Iterator[Any]:
    """The floating values among an op's attributes and immediate inputs."""
    values = [value for key, value in op.proto.attributes.items() if key != "name"]
    for argument in op.proto.inputs.values():
        values += [b.value for b in argument.arguments if b.WhichOneof("binding") == "value"]
    for value in values:
        if element_and_shape(value.type, op.name)[0] in FLOATS:
            yield value


COREML: RuleSet[MilView] = RuleSet("coreml")
