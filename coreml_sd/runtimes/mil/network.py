"""Run a saved .mlpackage with torch: arithmetic in fp32, results rounded as the file declares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.runtimes.base import Array, TensorInfo, check_inputs
from coreml_sd.runtimes.mil.attention import Seen
from coreml_sd.runtimes.mil.compile import Compiled, compile_function
from coreml_sd.runtimes.mil.instruction import Instruction
from coreml_sd.runtimes.mil.large_constants import KEPT_BYTES, Weights, to_tensor
from coreml_sd.runtimes.mil.package import MilPackage
from coreml_sd.runtimes.mil.trace import NumericTrace

Mode = Literal["fp32", "fp16"]


class MilNetwork:
    """One .mlpackage as an executable network (see `coreml_sd.runtimes.base.Network`).

    In fp32 mode nothing is rounded, which isolates errors of the conversion from the number
    format; inputs declared fp16 are then taken in fp32, so that chained chunks do not round at
    their seams. In fp16 mode inputs and the result of every op that the file declares as fp16 are
    rounded to fp16. An accelerator's own accumulation order is not modelled.

    Args:
        function: of a multifunction package.
        kept_bytes: how much of the decoded weights may stay in fp32; the others are decoded
            whenever they are used.
        record: keep the range of every result in `trace`.

    Raises:
        UserError: the file is damaged. CoremlSDError: it holds an op the evaluator does not know.
    """

    LABEL = "evaluated from the file, not run by Core ML"

    def __init__(
        self,
        path: Path | str,
        *,
        function: str = "main",
        mode: Mode = "fp16",
        kept_bytes: int = KEPT_BYTES,
        record: bool = False,
    ) -> None:
        self.path, self.mode = Path(path), mode
        self.package = MilPackage(path)
        self.trace: NumericTrace | None = NumericTrace() if record else None
        programs = self.package.programs
        self._stages = [
            compile_function(program, function, Weights(kept_bytes // len(programs)))
            for program in programs
        ]
        self._require_one_shape_each()

    @property
    def inputs(self) -> Mapping[str, TensorInfo]:
        """Declared inputs; of a pipeline, those that no earlier stage makes."""
        made: set[str] = set()
        wanted: dict[str, TensorInfo] = {}
        for stage in self._stages:
            wanted |= {
                name: TensorInfo(name, info.shape, self._element(info))
                for name, info in stage.inputs.items()
                if name not in made
            }
            made |= stage.outputs.keys()
        return wanted

    def _require_one_shape_each(self) -> None:
        """Stages that pass a tensor on, or take the same input, declare the same of it."""
        known: dict[str, TensorInfo] = {}
        for stage in self._stages:
            for name, info in stage.inputs.items():
                if name in known and known[name].shape != info.shape:
                    raise UserError(
                        f"{self.path}: {name} is {known[name].shape} in one stage and "
                        f"{info.shape} in another; convert again"
                    )
                known[name] = info
            known |= stage.outputs

    def _element(self, info: TensorInfo) -> str:
        """The type an input is taken in."""
        return "float32" if self.mode == "fp32" and info.dtype == "float16" else info.dtype

    @property
    def outputs(self) -> Mapping[str, TensorInfo]:
        """Declared outputs of the last stage."""
        return self._stages[-1].outputs

    def close(self) -> None:
        """Let the decoded weights go."""
        self._stages = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs; floats come as float32.

        Raises:
            UserError: an input is missing, unknown or of another shape, or an op failed, named.
            CoremlSDError: an op gave another shape than declared, or has a form that the evaluator
                does not know.
        """
        pool: dict[str, Any] = check_inputs(str(self.path), self.inputs, inputs)
        if self.trace is not None:
            self.trace.ranges.clear()
        with torch.inference_mode():
            for stage in self._stages:
                pool |= self._run_stage(stage, pool)
        return {name: np.asarray(pool[name]) for name in self.outputs}

    def _run_stage(self, stage: Compiled, pool: Mapping[str, Any]) -> dict[str, Any]:
        values: list[Tensor | None] = [None] * stage.slot_count
        for slot, constant in stage.constants.items():
            values[slot] = constant
        for name, slot in stage.input_slots.items():
            values[slot] = to_tensor(np.asarray(pool[name], self._element(stage.inputs[name])))
        for instruction in stage.instructions:
            self._step(instruction, values, stage)
        results: dict[str, Any] = {}
        for name, slot in stage.output_slots.items():
            tensor = values[slot]
            assert tensor is not None
            results[name] = tensor.numpy()
        return results

    def _step(self, call: Instruction, values: list[Tensor | None], stage: Compiled) -> None:
        def fetch(slot: int) -> Any:
            return stage.weights.get(slot) if slot in stage.weights else values[slot]

        parameters = {
            key: [fetch(s) for s in entry] if isinstance(entry, list) else fetch(entry)
            for key, entry in call.slots.items()
        }
        try:
            if call.inner:
                parameters["seen"] = self._observer(call)
            result = call.function(**parameters, **call.fixed)
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{self.path}: op {call.op.name} ({call.op.type}): {reason}") from error
        except CoremlSDError as error:
            kind = UserError if isinstance(error, UserError) else CoremlSDError
            raise kind(f"{self.path}: op {call.op.name} ({call.op.type}): {error}") from error
        tensors = result if isinstance(result, tuple) else (result,)
        for slot, tensor, rounds, shape in zip(
            call.results, tensors, call.rounds, call.shapes, strict=True
        ):
            if tuple(tensor.shape) != shape:
                raise CoremlSDError(
                    f"{self.path}: op {call.op.name} ({call.op.type}) gives {tuple(tensor.shape)}, "
                    f"the file declares {shape}"
                )
            if rounds and self.mode == "fp16":
                tensor = _rounded(tensor, parameters)
            if self.trace is not None and tensor.is_floating_point() and tensor.numel():
                self.trace.record(call.op.name, call.op.type, call.layer, tensor)
            values[slot] = tensor
        for slot in call.dead:
            values[slot] = None

    def _observer(self, call: Instruction) -> Seen | None:
        """Rounds and records the blocks of the results that a call makes within; None where
        neither is wanted."""
        if self.trace is None and self.mode == "fp32":
            return None
        begin = len(self.trace.ranges) if self.trace is not None else 0

        halves: dict[torch.Size, Tensor] = {}

        def seen(place: int, block: Tensor) -> None:
            inner = call.inner[place]
            if inner.rounds[0] and self.mode == "fp16":
                if block.shape not in halves:
                    halves[block.shape] = torch.empty(block.shape, dtype=torch.float16)
                block.copy_(halves[block.shape].copy_(block))
            if self.trace is not None:
                self.trace.record_block(
                    begin + place, inner.op.name, inner.op.type, inner.layer, block
                )

        return seen


def _rounded(tensor: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    """Rounded to fp16; in place, unless it is memory of a parameter, which others may read."""
    given = [
        p for value in parameters.values() for p in (value if type(value) is list else [value])
    ]
    own = tensor.untyped_storage().data_ptr()
    if any(isinstance(p, Tensor) and p.untyped_storage().data_ptr() == own for p in given):
        return tensor.half().float()
    return tensor.copy_(tensor.half())
