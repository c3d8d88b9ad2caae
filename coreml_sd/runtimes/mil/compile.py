"""Turn one function of a program into a list of bound calls over numbered slots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from torch import Tensor

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.runtimes.base import TensorInfo
from coreml_sd.runtimes.mil.attention import in_blocks
from coreml_sd.runtimes.mil.instruction import Instruction
from coreml_sd.runtimes.mil.large_constants import Weights, to_tensor
from coreml_sd.runtimes.mil.ops import OPS
from coreml_sd.runtimes.mil.package import MilPackage, Operation, Program, is_constant
from coreml_sd.runtimes.mil.predicted_shapes import require_declared_shapes
from coreml_sd.runtimes.mil.values import element_and_shape, read_value

_LARGE = 4096  # elements from which a constant is decoded on use


@dataclass
class Compiled:
    """A function ready to run: `constants` fill slots before, `weights` decode on use."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    input_slots: dict[str, int]
    output_slots: dict[str, int]
    instructions: list[Instruction]
    constants: dict[int, Tensor]
    weights: Weights
    slot_count: int


def compile_function(program: Program, function: str, weights: Weights) -> Compiled:
    """Compile one function.

    Args:
        weights: an empty store that says how much may stay decoded.

    Raises:
        CoremlSDError: an op that the evaluator does not know, named.
        UserError: damaged constants, or ops that would not give the shapes that are declared.
    """
    return _Compiler(program, function, weights).compile()


class _Compiler:
    def __init__(self, program: Program, function: str, weights: Weights) -> None:
        self.program, self.function, self.weights = program, function, weights
        self.package: MilPackage = program.package
        self.slots: dict[str, int] = {}
        self.values: dict[str, Any] = {}  # constants, as numpy or str
        self.constants: dict[int, Tensor] = {}
        self.immediate: dict[int, tuple[str, tuple[int, ...]]] = {}
        self.instructions: list[Instruction] = []
        self.layer = ""

    def compile(self) -> Compiled:
        proto, block = self.program.function(self.function), self.program.block(self.function)
        inputs = {}
        for entry in proto.inputs:
            element, shape = element_and_shape(entry.type, f"{self.package.path}: {entry.name}")
            inputs[entry.name] = TensorInfo(entry.name, shape, element)
        input_slots = {name: self._slot(name) for name in inputs}
        declared = {name: (info.dtype, info.shape) for name, info in inputs.items()}
        for op in self.program.operations(self.function):
            for name, element, shape in op.outputs:
                declared[name] = (element, shape)
            if is_constant(op.type):
                self._constant(op)
            else:
                self._instruction(op)
        outputs = {
            name: TensorInfo(name, declared[name][1], declared[name][0]) for name in block.outputs
        }
        output_slots = {name: self._tensor_slot(name) for name in outputs}
        shapes = {
            self.slots[name]: shape for name, (_, shape) in declared.items() if name in self.slots
        }
        given = {
            slot: declared[name]
            for name, slot in self.slots.items()
            if name in inputs or name in self.values
        }
        require_declared_shapes(str(self.package.path), self.instructions, given | self.immediate)
        kept = set(output_slots.values())
        self.instructions = in_blocks(self.instructions, kept, shapes)
        self._mark_dead(kept)
        return Compiled(
            inputs,
            outputs,
            input_slots,
            output_slots,
            self.instructions,
            self.constants,
            self.weights,
            len(self.slots),
        )

    def _slot(self, name: str) -> int:
        return self.slots.setdefault(name, len(self.slots))

    def _constant(self, op: Operation) -> None:
        large = max(prod(shape) for _, _, shape in op.outputs) > _LARGE
        if large:
            self.package.check(op)  # damage is said when the file is opened
        for place, (name, _, _) in enumerate(op.outputs):
            made = _Lazy(partial(self._decode, op, place))
            self.values[name] = made if large else made.make()

    def _decode(self, op: Operation, place: int) -> Any:
        known = {name: _force(self.values[name]) for name in _names(op) if name in self.values}
        return self.package.decode(op, known, widen=True)[place]

    def _instruction(self, op: Operation) -> None:
        kind = OPS.get(op.type)
        if kind is None:
            raise CoremlSDError(
                f"{self.package.path}: op {op.name}: the evaluator does not know {op.type}"
            )
        fixed: dict[str, Any] = {}
        slots: dict[str, int | list[int]] = {}
        for key, argument in op.proto.inputs.items():
            bindings = list(argument.arguments)
            if key == "values":
                slots[key] = [self._binding_slot(binding, op) for binding in bindings]
            elif key in kind.static:
                fixed[key] = _static(self._binding_value(bindings[0], op), self._where(op), key)
            else:
                slots[key] = self._binding_slot(bindings[0], op)
        for binding in (b for a in op.proto.inputs.values() for b in a.arguments):
            if binding.name.removesuffix("_to_fp16").endswith("weight"):
                self.layer = binding.name
        self.instructions.append(
            Instruction(
                op,
                kind.function,
                fixed,
                slots,
                [self._slot(name) for name, _, _ in op.outputs],
                [element == "float16" and not kind.moves for _, element, _ in op.outputs],
                [shape for _, _, shape in op.outputs],
                self.layer,
            )
        )

    def _binding_value(self, binding: Any, op: Operation) -> Any:
        if binding.WhichOneof("binding") == "name":
            if binding.name not in self.values:
                raise CoremlSDError(
                    f"{self.package.path}: op {op.name} needs a constant for {binding.name}"
                )
            return _force(self.values[binding.name])
        return read_value(binding.value, self.package.open_blob, f"{self.package.path}: {op.name}")

    def _binding_slot(self, binding: Any, op: Operation) -> int:
        if binding.WhichOneof("binding") == "name":
            return self._tensor_slot(binding.name)
        slot = self._slot(f"{op.name}#{len(self.slots)}")
        value = self._binding_value(binding, op)
        self.constants[slot] = _tensor(value, self._where(op))
        self.immediate[slot] = element_and_shape(binding.value.type, self._where(op))
        return slot

    def _where(self, op: Operation) -> str:
        return f"{self.package.path}: op {op.name}"

    def _tensor_slot(self, name: str) -> int:
        if name not in self.slots and name not in self.values:
            raise CoremlSDError(f"{self.package.path}: {name} is used before it is made")
        slot = self._slot(name)
        value = self.values.get(name)
        if isinstance(value, _Lazy):
            self.weights.makers[slot] = value.make
        elif value is not None and slot not in self.constants:
            self.constants[slot] = _tensor(value, f"{self.package.path}: {name}")
        return slot

    def _mark_dead(self, kept: set[int]) -> None:
        """Note at each instruction which slots nobody reads after it."""
        seen = set(kept) | set(self.constants) | set(self.weights.makers)
        for instruction in reversed(self.instructions):
            for slot in {*instruction.used, *instruction.results} - seen:
                instruction.dead.append(slot)
                seen.add(slot)


@dataclass(frozen=True)
class _Lazy:
    make: Callable[[], Any]


def _force(value: Any) -> Any:
    return value.make() if isinstance(value, _Lazy) else value


def _names(op: Operation) -> list[str]:
    return [binding.name for argument in op.proto.inputs.values() for binding in argument.arguments]


def _tensor(value: Any, where: str) -> Tensor:
    if not isinstance(value, np.ndarray):
        raise UserError(f"{where}: text where numbers are needed; convert again")
    return to_tensor(value)


def _static(value: Any, where: str, key: str) -> Any:
    if isinstance(value, str | list):
        return value
    array = np.asarray(value)
    if array.ndim > 1 or array.size > _LARGE:
        raise UserError(f"{where}: {key} is an array of shape {array.shape}; convert again")
    return array.item() if array.ndim == 0 else tuple(array.tolist())
