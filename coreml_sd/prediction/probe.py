"""How fast this machine is now, at work like a conversion's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

_SIDE = 1024
_ROUNDS = 5


def probe() -> dict[str, float]:
    """Seconds of two small pieces of work (medians; under a second in all): `interpreter`, Python
    that builds and walks objects as graph passes do, and `compute`, a matrix product on all
    threads. Other work on the machine makes both longer, as it does a conversion.
    """
    matrix = np.full((_SIDE, _SIDE), 0.5, dtype=np.float32)
    product = np.empty_like(matrix)
    return {
        "interpreter": _median(_objects),
        "compute": _median(lambda: np.matmul(matrix, matrix, out=product)),
    }


def _objects() -> None:
    table: dict[str, list[tuple[int, str]]] = {}
    for number in range(60_000):
        name = f"op_{number % 5000}"
        table.setdefault(name, []).append((number, name))
    sum(len(each) for each in table.values())


def _median(work: Callable[[], object]) -> float:
    work()
    taken = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
