"""Stand-ins: arrays without memory that go through the converter in place of large weights."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from coreml_sd.errors import CoremlSDError
from coreml_sd.upstream.coremltools_constants import put_value

# The fp16 bit patterns of the stand-ins' values: normal numbers above 1, so that each is exact in
# fp32 too and none is a zero or a one, which graph passes look for.
_FIRST_PATTERN = 0x3C01
_LAST_PATTERN = 0x7BFF
# Where a weight may stand in a program: nothing there computes with it ahead of time.
_READERS = {("conv", "weight"), ("linear", "weight"), ("gather", "x")}


@dataclass(frozen=True)
class StandIns:
    """Which parameter each stand-in stands for.

    A stand-in has the parameter's shape and one number of its own in all places, held once (all
    strides are zero). Constants made of it by a pass are told apart from it: they have memory.
    """

    shapes: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        if len(self.shapes) > _LAST_PATTERN - _FIRST_PATTERN:
            raise CoremlSDError(f"{len(self.shapes)} weights in one file are too many")

    def tensor(self, name: str) -> torch.Tensor:
        """The stand-in as torch gives it to the converter, in fp32."""
        number = self._patterns[name].view(np.float16).astype(np.float32)
        return torch.tensor(float(number)).expand(self.shapes[name])

    def name_of(self, value: Any) -> str | None:
        """The parameter that a constant of the program stands for."""
        if not isinstance(value, np.ndarray) or value.size < 2 or any(value.strides):
            return None
        if value.dtype not in (np.float16, np.float32):
            return None
        name = self._names.get(float(value.flat[0]))
        return name if name is not None and self.shapes[name] == value.shape else None

    def keep_weightless(self, program: Any) -> None:
        """Let the program's stand-ins stay without memory when they are cast."""
        for _, op in self.constants(program):
            put_value(op, op.outputs[0].val.view(_Weightless))

    def readers(self, program: Any) -> dict[str, int]:
        """How many ops read each stand-in.

        Raises:
            CoremlSDError: an op other than a layer reads one: its values would be needed.
        """
        counts = dict.fromkeys(self.shapes, 0)
        for name, op in self.constants(program):
            for reader in op.outputs[0].child_ops:
                places = {(reader.op_type, key) for key, var in reader.inputs.items()
                          if var is op.outputs[0]}  # fmt: skip
                if not places <= _READERS:
                    raise CoremlSDError(f"{name} is used by {reader.op_type} ({reader.name})")
                counts[name] += 1
        return counts

    def constants(self, program: Any) -> Iterator[tuple[str, Any]]:
        """The program's `const` ops that are stand-ins, with their parameters' names."""
        for function in program.functions.values():
            for op in list(function.operations):
                if op.op_type == "const":
                    name = self.name_of(op.outputs[0].val)
                    if name is not None:
                        yield name, op

    @functools.cached_property
    def _patterns(self) -> dict[str, np.uint16]:
        return {name: np.uint16(_FIRST_PATTERN + i) for i, name in enumerate(self.shapes)}

    @functools.cached_property
    def _names(self) -> dict[float, str]:
        return {float(pattern.view(np.float16)): name for name, pattern in self._patterns.items()}


class _Weightless(np.ndarray[Any, Any]):
    """An array of one number that stays without memory when it is cast."""

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        return np.broadcast_to(self.flat[0].astype(dtype), self.shape).view(_Weightless)

    def flatten(self, *args: Any, **kwargs: Any) -> Any:
        return np.broadcast_to(self.flat[0], (self.size,))

    def __ne__(self, other: Any) -> Any:
        if isinstance(other, _Weightless) and other.shape == self.shape:
            return self.flat[0] != other.flat[0]  # for all places at once
        return super().__ne__(other)


def is_weightless(value: Any) -> bool:
    """Whether a constant's value is a stand-in."""
    return isinstance(value, _Weightless)
