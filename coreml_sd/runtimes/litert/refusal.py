"""What the GPU delegate says on the ops that it does not take; it says so on stderr alone."""

from __future__ import annotations

import re


def rejected(chatter: str) -> tuple[str, ...]:
    """The lines between "Following operations are not supported" and the count of the rest."""
    block = re.search(
        r"operations are not supported by GPU delegate:\n(.*?)(?:\n\d+ operations|\Z)",
        chatter,
        re.S,
    )
    return tuple(line.strip() for line in block[1].splitlines() if line.strip()) if block else ()
