"""Large constants of a program: decoded when an op uses them, kept in fp32 as far as allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEPT_BYTES = 256 << 20  # a small network stays decoded; of a large one the first weights do
_FLOATS = ("float16", "float32", "float64")


@dataclass
class Weights:
    """Weights by slot.

    A palette of 6 bits takes a fifth of fp32's memory in the mapped file and is expanded in a
    small part of the time of the op that multiplies by it. So only `allowed` bytes stay decoded,
    those of the ops that run first: which ones makes no difference, for each is used once a run.
    """

    allowed: int
    makers: dict[int, Callable[[], Any]] = field(default_factory=dict)
    kept: dict[int, Tensor] = field(default_factory=dict)

    def __contains__(self, slot: int) -> bool:
        return slot in self.makers

    def get(self, slot: int) -> Tensor:
        """One weight as the evaluator computes with it.

        Raises:
            UserError: damaged data.
        """
        kept = self.kept.get(slot)
        if kept is not None:
            return kept
        tensor = _to_tensor(self.makers[slot]())
        if tensor.nbytes <= self.allowed:
            self.allowed -= tensor.nbytes
            self.kept[slot] = tensor
        return tensor


def to_tensor(value: Any) -> Tensor:
    """A constant as the evaluator computes with it, copied: fp32, int32 or bool."""
    array = np.asarray(value)
    if array.dtype.name in _FLOATS:
        return torch.from_numpy(array.astype(np.float32))
    if array.dtype == np.bool_:
        return torch.from_numpy(array.copy())
    return torch.from_numpy(array.astype(np.int32))


def _to_tensor(decoded: Any) -> Tensor:
    """Without a copy where the value was made for this use alone and not mapped from the file."""
    array = np.asarray(decoded)
    if array.dtype == np.float32 and array.flags.writeable:
        return torch.from_numpy(array)
    return to_tensor(array)
