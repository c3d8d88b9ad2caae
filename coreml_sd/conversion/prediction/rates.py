"""Measured rates: how long a conversion's work takes and what memory it holds, for its size.

They lie in `rates.json`, written by `scripts/check_predictions.py --write` on one machine; the
probe's figures there tell how much faster or slower another machine is.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RATES_FILE = Path(__file__).with_name("rates.json")
_TYPICAL_PROGRAM = 4000.0  # for components that were not measured


@dataclass(frozen=True)
class Rates:
    """`seconds` and `memory`: kind of work -> what one of each measure of its size takes (see
    `prediction.work`), in seconds of the machine whose probe took `probe`, and in bytes.
    `program`: target -> component -> bytes of the program for each layer."""

    probe: dict[str, float]
    seconds: dict[str, dict[str, float]]
    memory: dict[str, dict[str, float]]
    program: dict[str, dict[str, float]]
    manifest: dict[str, float]
    measured: dict[str, Any]

    def program_bytes(self, target: str, component: str) -> float:
        """Bytes of a target's program for each layer of a component."""
        return self.program.get(target, {}).get(component, _TYPICAL_PROGRAM)


@functools.cache
def rates() -> Rates:
    """Those of the file."""
    return Rates(**json.loads(RATES_FILE.read_text("utf-8")))
