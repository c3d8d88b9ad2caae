"""How fast this machine is now, at work like a conversion's."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

_SIDE = 1024


def probe(seconds: float = 1.6) -> dict[str, float]:
    """Seconds of two small pieces of work: `interpreter`, Python that builds and walks objects as
    graph passes do, and `compute`, a matrix product on all threads.

    Each is repeated for half the `seconds` and its mean taken: where other work takes turns on the
    cores, a single short piece would slip in between.
    """
    matrix = np.full((_SIDE, _SIDE), 0.5, dtype=np.float32)
    product = np.empty_like(matrix)
    return {
        "interpreter": _mean(_objects, seconds / 2),
        "compute": _mean(lambda: np.matmul(matrix, matrix, out=product), seconds / 2),
    }


def _objects() -> None:
    table: dict[str, list[tuple[int, str]]] = {}
    for number in range(60_000):
        name = f"op_{number % 5000}"
        table.setdefault(name, []).append((number, name))
    sum(len(each) for each in table.values())


def _mean(work: Callable[[], object], seconds: float) -> float:
    work()
    started, rounds, taken = time.perf_counter(), 0, 0.0
    while taken < seconds or not rounds:
        work()
        rounds += 1
        taken = time.perf_counter() - started
    return taken / rounds
