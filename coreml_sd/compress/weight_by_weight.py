"""All weights of a network, a few of them in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

_MOST_THREADS = 3  # each holds a weight and its bytes; more are hardly faster


def for_each_weight(
    work: Callable[[str], None], names: Iterable[str], workers: int | None = None
) -> None:
    """Call `work` with each name, on `workers` threads at most; the first error is raised."""
    threads = min(_MOST_THREADS, workers or os.cpu_count() or 1)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for _ in pool.map(work, names):
            pass
