"""How fast this machine is now, at work like a conversion's."""

from __future__ import annotations

import time

import numpy as np

_SIDE, _PRODUCTS = 1024, 2
_NAMES, _OBJECTS = 5_000, 60_000


def probe(seconds: float = 1.6) -> float:
    """Mean seconds of a small piece of work: objects as graph passes build them, and matrix
    products on all threads.

    It is repeated for so many `seconds`: where other work takes turns on the cores, a single short
    piece would slip in between.
    """
    matrix = np.full((_SIDE, _SIDE), 0.5, dtype=np.float32)
    product = np.empty_like(matrix)
    rounds, started = 0, time.perf_counter()
    while not rounds or time.perf_counter() - started < seconds:
        _build_objects()
        for _ in range(_PRODUCTS):
            np.matmul(matrix, matrix, out=product)
        rounds += 1
    return (time.perf_counter() - started) / rounds


def _build_objects() -> None:
    table: dict[str, list[tuple[int, str]]] = {}
    for number in range(_OBJECTS):
        name = f"op_{number % _NAMES}"
        table.setdefault(name, []).append((number, name))
