"""A .tflite as its rules see it: ops of all graphs, who makes which tensor, the device."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from coreml_sd.lint.fp16 import peak
from coreml_sd.lint.rule import Hit, RuleSet
from coreml_sd.runtimes.litert.file import Graph, Op, Tensor, TFLiteFile
from coreml_sd.targets.tflite.profiles import Profile

FLOATS = ("float32", "float16", "bfloat16")
INTEGER_WEIGHTS = ("int8", "int4", "int2", "uint8")


class TFLiteView:
    """One file and the profile of the device that is to run it."""

    def __init__(self, file: TFLiteFile, device: Profile) -> None:
        self.file, self.device = file, device
        self._peaks: dict[int, float] = {}

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """All graphs, the main one first."""
        return self.file.graphs

    def ops(self, *kinds: str) -> Iterator[tuple[Graph, Op]]:
        """Every op of the given kinds (of all kinds when none is given), in order."""
        for graph in self.graphs:
            for op in graph.ops:
                if not kinds or op.kind in kinds:
                    yield graph, op

    @cached_property
    def _producers(self) -> dict[tuple[int, int], Op]:
        return {
            (id(graph), tensor.index): op
            for graph in self.graphs
            for op in graph.ops
            for tensor in op.outputs
        }

    def producer(self, graph: Graph, tensor: Tensor | None) -> Op | None:
        """The op that computes a tensor; None for constants, inputs and absent tensors."""
        return None if tensor is None else self._producers.get((id(graph), tensor.index))

    def constants(self) -> Iterator[tuple[Op, Tensor]]:
        """Every stored tensor once, with the first op that reads it."""
        seen: set[int] = set()
        for _, op in self.ops():
            for tensor in op.inputs:
                if tensor is not None and tensor.is_constant and tensor.buffer not in seen:
                    seen.add(tensor.buffer)
                    yield op, tensor

    def peak(self, tensor: Tensor) -> float:
        """Largest magnitude of a constant; inf or NaN where a value is."""
        if tensor.buffer not in self._peaks:
            self._peaks[tensor.buffer] = peak(self.file.data(tensor))
        return self._peaks[tensor.buffer]


def hit(op: Op, why: str, remedy: str) -> Hit:
    """A rule broken at an op."""
    return Hit(f"{op.kind} #{op.index}", op.layer, why, remedy)


def dimensions(shape: tuple[int, ...]) -> str:
    """A shape as people write it: 1x64x64x320."""
    return "x".join(str(size) for size in shape) or "scalar"


TFLITE: RuleSet[TFLiteView] = RuleSet("tflite")
