"""Commands as processes of their own: their seconds and memory, in a table."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psutil

_PAUSE = 0.1  # seconds between two looks at the memory
_SHARED = 10  # every so many of them sort out what is shared, which is itself some work


class Figures(NamedTuple):
    """Seconds, CPU seconds and the most memory of the whole tree of processes in GB: `resident`
    adds up what each process has, `memory` counts pages that they share once (Linux)."""

    seconds: float
    cpu: float
    resident: float
    memory: float


Rounds = Sequence[dict[str, Figures]]


def measure(command: list[str]) -> Figures:
    """Run a command and watch the memory of all its processes."""
    root = str(Path(__file__).parent.parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "OMP_WAIT_POLICY": "passive"}
    before, started = os.times(), time.perf_counter()
    most = memory = looks = 0
    process = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        most = max(most, resident(process))
        if looks % _SHARED == 0:
            with contextlib.suppress(psutil.Error):  # one has ended meanwhile
                full = [each.memory_full_info() for each in _tree(process)]
                memory = max(memory, sum(getattr(each, "pss", each.rss) for each in full))
        looks += 1
        time.sleep(_PAUSE)
    seconds, after = time.perf_counter() - started, os.times()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: status {process.returncode}")
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return Figures(seconds, cpu, most / 1e9, memory / 1e9)


def resident(process: psutil.Process) -> int:
    """Bytes of a process and all that it started; 0 where one of them has just ended."""
    try:
        return sum(each.memory_info().rss for each in _tree(process))
    except psutil.Error:
        return 0


def _tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def heading(label: str, rounds: int, packages: Sequence[str]) -> str:
    """What stands above a table: what was measured how often, where, with what, and when."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    times = f"{rounds} round" if rounds == 1 else f"{rounds} rounds"
    return (
        f"**{label}**, {times} ({os.cpu_count()} cores; {versions}; "
        f"{time.strftime('%Y-%m-%d')}; load {os.getloadavg()[0]:.1f} at the end):"
    )


def table(label: str, rounds: Rounds, packages: Sequence[str]) -> list[str]:
    """Lines of a table: medians of the rounds, the most memory of any."""
    lines = [
        heading(label, len(rounds), packages),
        "",
        "| | seconds (min to max) | CPU seconds | peak GB | shared pages once |",
        "|---|---|---|---|---|",
    ]
    for name in rounds[0]:
        seconds, cpu, resident, memory = zip(*(each[name] for each in rounds), strict=True)
        lines.append(
            f"| {name} | {statistics.median(seconds):.1f} ({min(seconds):.1f} to "
            f"{max(seconds):.1f}) | {statistics.median(cpu):.0f} | {max(resident):.2f} | "
            f"{max(memory):.2f} |"
        )
    return [*lines, ""]


def ratio(label: str, rounds: Rounds, ours: str, plain: Sequence[str]) -> str:
    """One line: how much longer the plain steps take together, round by round."""
    ratios = [sum(each[name].seconds for name in plain) / each[ours].seconds for each in rounds]
    return (
        f"- {label}: the plain path takes {statistics.median(ratios):.1f} times as long "
        f"({min(ratios):.1f} to {max(ratios):.1f})"
    )
