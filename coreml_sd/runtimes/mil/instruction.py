"""One call of a compiled program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Instruction:
    """One call: parameters by name, each a slot, a list of slots, or a fixed value.

    `inner` are the ops whose results are made and used block by block within this call.
    """

    op: Any
    function: Callable[..., Any]
    fixed: dict[str, Any]
    slots: dict[str, int | list[int]]
    results: list[int]
    rounds: list[bool]
    shapes: list[tuple[int, ...]]
    layer: str
    dead: list[int] = field(default_factory=list)
    inner: tuple[Instruction, ...] = ()

    @property
    def used(self) -> list[int]:
        """Every slot it reads."""
        entries = self.slots.values()
        return [s for entry in entries for s in (entry if isinstance(entry, list) else [entry])]
