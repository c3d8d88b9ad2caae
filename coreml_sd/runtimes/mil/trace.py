"""What happened to the numbers of a run: range per op, and the first op that left fp16."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

LIMIT = 60_000.0  # fp16 ends at 65,504; beyond this a phone's own rounding may overflow


@dataclass(frozen=True)
class OpRange:
    """Smallest and largest value of one op's result; `layer` is the last weight used before."""

    op: str
    type: str
    layer: str
    low: float
    high: float

    @property
    def peak(self) -> float:
        """Largest magnitude; inf where a value is not finite."""
        peak = max(abs(self.low), abs(self.high))
        return math.inf if math.isnan(peak) else peak


@dataclass
class NumericTrace:
    """Ranges of all floating results, in order."""

    ranges: list[OpRange] = field(default_factory=list)

    def record(self, op: str, kind: str, layer: str, result: Tensor) -> None:
        """Add one result (NaN shows as an infinite peak)."""
        low, high = result.aminmax()
        self.ranges.append(OpRange(op, kind, layer, float(low), float(high)))

    def record_block(self, place: int, op: str, kind: str, layer: str, block: Tensor) -> None:
        """Add a part of the result of `ranges[place]`, which the first part makes."""
        low, high = (float(bound) for bound in block.aminmax())
        if place < len(self.ranges):
            low, high = (
                _least(self.ranges[place].low, low),
                -_least(-self.ranges[place].high, -high),
            )
            self.ranges[place] = OpRange(op, kind, layer, low, high)
        else:
            self.ranges.append(OpRange(op, kind, layer, low, high))

    @property
    def peak(self) -> float:
        """Largest magnitude of the run."""
        return max((entry.peak for entry in self.ranges), default=0.0)

    @property
    def first_unsafe(self) -> OpRange | None:
        """The first op with inf, NaN or a magnitude above 60,000."""
        return next((entry for entry in self.ranges if entry.peak > LIMIT), None)


def _least(first: float, second: float) -> float:
    """The smaller one, or NaN where one of them is."""
    return first if math.isnan(first) or first < second else second
