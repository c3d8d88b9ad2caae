"""Export without the large weights: a name stands for each until the file is written.

The exporter holds its constants several times over: SD 1.5's UNet, 3.4 GB in fp32, took 10.9 GB.
Of a large constant it never looks at the values: it turns the axes of some and multiplies others by
the scale of an attention. So each travels as a name, what is done to it is noted, and the values
are read and changed once, when they are written to the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coreml_sd.errors import CoremlSDError
from coreml_sd.targets.tflite.unread_weights import Read, UnreadWeights
from coreml_sd.upstream import table
from coreml_sd.upstream.litert_torch_constants import (
    Lowering,
    folded_after,
    is_small,
    lowered_by,
    shared_constant,
)

_NAME = "stand_in_"
Step = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class StoodFor:
    """A weight of the network, how to read it, and what the exporter does to it on its way to the
    file."""

    tensor: torch.Tensor
    read: Read
    shape: tuple[int, ...]
    steps: tuple[Step, ...] = ()

    def values(self) -> NDArray[np.float32]:
        """What the file holds, contiguous."""
        value = self.read()
        for step in self.steps:
            value = step(value)
        if tuple(value.shape) != self.shape:
            raise CoremlSDError(f"a weight of {tuple(value.shape)} where {self.shape} is declared")
        array: NDArray[np.float32] = value.contiguous().numpy()
        return array

    def then(self, step: Step, shape: tuple[int, ...]) -> StoodFor:
        """The weight after one more step, which gives it this shape."""
        return dataclasses.replace(self, shape=shape, steps=(*self.steps, step))


@dataclass
class StandIns:
    """The weights left out of one export, and what fills them in."""

    weights: list[StoodFor] = field(default_factory=list)

    def attribute(self, weight: StoodFor) -> Any:
        """A constant of the program that stands for a weight: its name says which one."""
        from litert_converter.mlir import ir

        with ir.Location.unknown():
            kind = ir.RankedTensorType.get(weight.shape, ir.F32Type.get())
        self.weights.append(weight)
        name = f"{_NAME}{len(self.weights) - 1}_"
        # Of the full size, for a pass may look; the system gives pages only to what is written.
        nothing = np.zeros(weight.shape, np.float32)
        return ir.DenseResourceElementsAttr.get_from_buffer(nothing.data, name, kind)

    def weight(self, constant: Any) -> StoodFor | None:
        """What a constant of the program stands for; None where it is no stand-in.

        The exporter's own passes change the shape of some, which leaves the values in their order.
        """
        found = re.search(rf"<{_NAME}(\d+)_", str(constant))
        if found is None:
            return None
        weight, shape = self.weights[int(found[1])], tuple(constant.type.shape)

        def reshape(value: torch.Tensor) -> torch.Tensor:
            return value.reshape(shape)

        return weight.then(reshape, shape)

    def leave_out(self, module: Any) -> None:
        """Declare each stand-in as data outside of the file, which is then written without it."""
        from litert_converter.mlir import ir

        numbers: dict[str, int] = {}
        operation = getattr(module, "operation", module)
        with operation.context, ir.Location.unknown():
            for op in list(_operations(operation)):
                held = op.attributes["value"] if "value" in op.attributes else None  # noqa: SIM401
                dense = held is None or isinstance(held, ir.DenseElementsAttr)
                weight = None if dense else self.weight(held)
                if weight is None:
                    continue
                if str(held) not in numbers:  # constants that share their values go on sharing
                    numbers[str(held)] = len(self.weights)
                    self.weights.append(weight)
                _replace(op, numbers[str(held)])

    def take_in(self, model: Any) -> dict[int, StoodFor]:
        """Give every weight a buffer of the model that the exporter wrote, in the order in which
        the exporter would have; which one holds which.

        Raises:
            CoremlSDError: the exporter left a weight out.
        """
        if not self.weights:
            return {}
        from ai_edge_litert.tools import flatbuffer_utils as files

        numbers = {each.id: each.offset for each in model.externalBuffers or ()}
        stored = {id(self.weights[number].tensor) for number in numbers.values()}
        lost = [weight for weight in self.weights if id(weight.tensor) not in stored]
        if lost:
            raise CoremlSDError(f"the exporter lost a weight of {tuple(lost[0].tensor.shape)}")
        order: dict[tuple[str, int], int] = {("", 0): 0}
        for tensor in [tensor for graph in model.subgraphs for tensor in graph.tensors]:
            outside = tensor.externalBuffer
            key = ("outside", numbers[outside]) if outside else ("", int(tensor.buffer))
            tensor.buffer, tensor.externalBuffer = order.setdefault(key, len(order)), 0
        for old in range(len(model.buffers)):
            order.setdefault(("", old), len(order))
        for entry in model.metadata or ():
            entry.buffer = order["", int(entry.buffer)]
        buffers, places = [], {}
        for (kind, number), new in order.items():
            buffers.append(files.BufferT() if kind else model.buffers[number])
            if kind:
                places[new] = self.weights[number]
        model.buffers, model.externalBuffers, model.externalBufferGroups = buffers, None, None
        return places


def _replace(op: Any, number: int) -> None:
    """A constant of the program by one that lies elsewhere, under the same name."""
    from litert_converter.mlir import ir

    place = f'group_name = "weights", offset = {number}, length = 1, packing = ""'
    nameless = str(op.location) == "loc(unknown)"
    outside = ir.Operation.create(
        "tfl.external_const",
        results=[op.results[0].type],
        attributes={"external_buffer": ir.Attribute.parse(f"#tfl.external_buffer<{place}>")},
        loc=ir.Location.name(op.name) if nameless else op.location,
        ip=ir.InsertionPoint(op),
    )
    op.results[0].replace_all_uses_with(outside.results[0])
    op.erase()


def _operations(operation: Any) -> Iterator[Any]:
    """All within one, the deepest first."""
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield from _operations(inner.operation)
                yield inner.operation


@contextlib.contextmanager
def standing_in(unread: UnreadWeights) -> Iterator[StandIns]:
    """While open, litert-torch exports large fp32 constants as stand-ins, unless that is switched
    off (`coreml_sd.upstream.plain`)."""
    if not table.STAND_INS.is_on:
        yield StandIns()
        return
    stand_ins, uniform = StandIns(), []

    def lower(lowering: Lowering, context: Any, tensor: torch.Tensor) -> Any:
        if tensor.dtype != torch.float32 or is_small(tensor):
            return lowering(context, tensor)
        read = unread.read(tensor)
        if unread.is_uniform(tensor):
            uniform.append(read())  # the exporter tells constants apart by their addresses
            return lowering(context, uniform[-1])
        weight = StoodFor(tensor, read, tuple(tensor.shape))
        return shared_constant(context, tensor, lambda: stand_ins.attribute(weight))

    def fold(module: Any, about_to_be_folded: Callable[[], list[Any]]) -> bool:
        found = _fold(stand_ins, module)
        _require_none(stand_ins, about_to_be_folded())
        return found

    with lowered_by(lower), folded_after(fold):
        yield stand_ins


def _fold(stand_ins: StandIns, module: Any) -> bool:
    """Put one stand-in in the place of each op on one; whether there was any.

    The exporter runs ops on constants in an interpreter, which has to see their values.
    """
    from litert_converter.tools import model_utils
    from litert_converter.tools.model_utils.dialect import mlir, tfl

    found = False
    for op in [each for each in module.walk() if each.name in _STEPS]:
        weights = [_constant(stand_ins, operand) for operand in op.operands]
        places = [place for place, weight in enumerate(weights) if weight is not None]
        weight = weights[places[0]] if len(places) == 1 else None
        step = _STEPS[op.name](op, op.operands[1 - places[0]].owner) if weight else None
        if weight is None or step is None:
            continue
        shape = tuple(op.results[0].type.shape)
        made = stand_ins.attribute(weight.then(step, shape))
        with model_utils.core.OpBuildingContext(op):
            op.results[0].replace_by(tfl.const(mlir.MlirAttribute(made)))
        found = True
    return found


def _constant(stand_ins: StandIns, operand: Any) -> StoodFor | None:
    """Only resources are asked: another constant's text may hold all its values."""
    from litert_converter.tools.model_utils.dialect import mlir

    value = getattr(operand.owner, "attributes", {}).get("value")
    if value is None or isinstance(value, mlir.DenseElementsAttr):
        return None
    return stand_ins.weight(value.to_mlir())


def _turn(op: Any, other: Any) -> Step | None:
    """The axes in another order."""
    if not hasattr(other, "numpy"):
        return None
    axes = tuple(int(axis) for axis in other.numpy().reshape(-1))
    return lambda value: value.permute(axes)


def _multiply(op: Any, other: Any) -> Step | None:
    """Times a constant."""
    plain = "NONE" in str(op.attributes["fused_activation_function"])
    if not plain or not hasattr(other, "numpy"):
        return None
    factor = torch.from_numpy(np.array(other.numpy(), np.float32))
    return lambda value: value * factor


_STEPS: dict[str, Callable[[Any, Any], Step | None]] = {
    "tfl.transpose": _turn,
    "tfl.mul": _multiply,
}


def _require_none(stand_ins: StandIns, ops: list[Any]) -> None:
    """The exporter would compute on nothing."""
    for op in ops:
        used = any(result.uses for result in op.results)
        if used and any(_constant(stand_ins, operand) for operand in op.operands):
            raise CoremlSDError(f"{op.name} on a weight: a step of the exporter that is not known")
