"""A network as a flat list of steps over named tensors, which can be cut anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from coreml_sd.errors import CoremlSDError
from coreml_sd.upstream.torch_tensors import storage_key

_FP16_BYTES = 2


@dataclass(frozen=True)
class Step:
    """One module call.

    `name` is the module's path in the source network. The module takes the tensors of `reads` in
    order and returns a tensor, or a tuple of tensors, for `writes`. Each tensor is written once.
    """

    name: str
    module: nn.Module
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class StepSequence(nn.Module):
    """Steps in order over named tensors; also what a cut gives.

    `forward` takes the tensors of `inputs` in order and returns a tuple in the order of
    `outputs`. Modules are registered under the names of their steps, so that parameters keep
    the names of the source's state dict. A tensor is dropped after its last use.

    Raises:
        CoremlSDError: a step reads what nothing wrote, a tensor is written twice, or an output
            is never written.
    """

    def __init__(self, steps: Sequence[Step], inputs: Sequence[str], outputs: Sequence[str]):
        super().__init__()
        self.steps = tuple(steps)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._check_names()
        for step in self.steps:
            _register(self, step.name, step.module)
        self._last_use = {name: i for i, step in enumerate(self.steps) for name in step.reads}

    def _check_names(self) -> None:
        known = set(self.inputs)
        for step in self.steps:
            if missing := [name for name in step.reads if name not in known]:
                raise CoremlSDError(f"step {step.name} reads {missing[0]}, which nothing wrote")
            if twice := [name for name in step.writes if name in known]:
                raise CoremlSDError(f"step {step.name} writes {twice[0]} a second time")
            known.update(step.writes)
        if missing := [name for name in self.outputs if name not in known]:
            raise CoremlSDError(f"output {missing[0]} is never written")

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if len(inputs) != len(self.inputs):
            raise CoremlSDError(f"{len(inputs)} tensors given for inputs {self.inputs}")
        live = dict(zip(self.inputs, inputs, strict=True))
        for i, step in enumerate(self.steps):
            result = step.module(*(live[name] for name in step.reads))
            written = result if isinstance(result, tuple) else (result,)
            live.update(zip(step.writes, written, strict=True))
            for name in step.reads:
                if self._last_use[name] == i and name not in self.outputs:
                    live.pop(name, None)
        return tuple(live[name] for name in self.outputs)

    def cut(self, boundaries: Sequence[int]) -> list[StepSequence]:
        """Cut before the steps of the given indices; N boundaries give N + 1 pieces.

        A piece's inputs are the original inputs that its steps read, then the tensors of earlier
        pieces that they read; its outputs are the tensors that later pieces read or that the
        whole gives. Run over one pool of named tensors, the pieces equal the whole bit for bit.

        Raises:
            CoremlSDError: boundaries that are not increasing or leave an empty piece.
        """
        ends = [0, *boundaries, len(self.steps)]
        if any(start >= end for start, end in pairwise(ends)):
            raise CoremlSDError(
                f"boundaries {list(boundaries)} do not cut {len(self.steps)} steps into pieces"
            )
        return [self._piece(start, end) for start, end in pairwise(ends)]

    def _piece(self, start: int, end: int) -> StepSequence:
        steps = self.steps[start:end]
        written = _written(steps)
        read = {name for step in steps for name in step.reads}
        needed = {name for step in self.steps[end:] for name in step.reads} | set(self.outputs)
        available = (*self.inputs, *_written(self.steps[:start]))
        return StepSequence(
            steps,
            [name for name in available if name in read],
            [name for name in written if name in needed],
        )

    def seam(self, boundary: int) -> tuple[str, ...]:
        """The tensors that cross a cut before step `boundary`; original inputs do not count."""
        read = {name for step in self.steps[boundary:] for name in step.reads}
        return tuple(name for name in _written(self.steps[:boundary]) if name in read)

    def step_bytes(self) -> list[int]:
        """Weight bytes at fp16 of each step; a weight that steps share counts for the first."""
        seen: set[tuple[int, int]] = set()
        totals = []
        for step in self.steps:
            fresh = [p for p in step.module.parameters() if storage_key(p) not in seen]
            seen.update(storage_key(p) for p in fresh)
            totals.append(_FP16_BYTES * sum(p.numel() for p in fresh))
        return totals


def _written(steps: Sequence[Step]) -> list[str]:
    return [name for step in steps for name in step.writes]


def _register(root: nn.Module, path: str, module: nn.Module) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(leaf, module)
