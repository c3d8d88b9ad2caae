"""How fast this machine is now, at work like a conversion's."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

_SIDE = 1024
_FOLLOWS = 0.5  # a conversion's seconds go with this power of the probe's


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


def slowness(measured: dict[str, float], reference: dict[str, float]) -> dict[str, float]:
    """How many times as long as where `reference` was measured each kind of work should take.

    Less than the probe says: it fits into a cache where a conversion waits for memory, and a second
    on a machine with other work tells little of the next minutes. The power was found by holding
    predictions against conversions at many speeds.
    """
    return {name: (measured[name] / known) ** _FOLLOWS for name, known in reference.items()}


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
