"""What a disturbed conversion did that it should not have done."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field


@dataclass
class Findings:
    """What was done, and everything that should not have happened."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    broken: list[str] = field(default_factory=list)
    slowest_stop: float = 0.0

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note what is broken unless it holds."""
        if not holds:
            self.broken.append(otherwise)
