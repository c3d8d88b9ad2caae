"""Steps in turn: what else the machine does then disturbs all that are compared alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence


def seconds(run: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def in_turn(
    turns: Sequence[Callable[[], float]],
    rounds: int,
    after: Callable[[list[float]], None] = lambda taken: None,
) -> list[list[float]]:
    """What each turn says in every round; `after` is told each round."""
    told = []
    for _ in range(rounds):
        told.append([turn() for turn in turns])
        after(told[-1])
    return [list(column) for column in zip(*told, strict=True)]
