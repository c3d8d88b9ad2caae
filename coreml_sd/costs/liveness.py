"""How much is alive at once while ops run in order."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """One op: the tensors it reads, and the bytes of each tensor it writes."""

    reads: Collection[Hashable]
    writes: Mapping[Any, int]


def largest_live(calls: Sequence[Call], outputs: Collection[Hashable]) -> int:
    """Largest sum of bytes alive at one op.

    A tensor lives from the op that writes it to the last one that reads it; `outputs` live to
    the end. Tensors that no op writes (inputs and constants) are left out.
    """
    last = {name: index for index, call in enumerate(calls) for name in call.reads}
    last.update(dict.fromkeys(outputs, len(calls)))
    live: dict[Hashable, int] = {}
    peak = 0
    for index, call in enumerate(calls):
        live.update(call.writes)
        peak = max(peak, sum(live.values()))
        live = {name: size for name, size in live.items() if last.get(name, -1) > index}
    return peak
