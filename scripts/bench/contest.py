"""Contestants against each other: the best thread count of each, then steps in turn."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from coreml_sd.metrics import psnr_db
from scripts.bench.contestant import Array, Child, Contestant
from scripts.bench.networks import Measured
from scripts.bench.turns import in_turn

Say = Callable[[str], None]
_TRIED_TURNS = 3
_SHORTEST = 0.3  # seconds of one turn: shorter steps are repeated, as when a picture is made


@dataclass(frozen=True)
class Trial:
    """What a contestant did alone: its best number of threads, and what it needs."""

    contestant: Contestant
    threads: int
    seconds: float
    peak_gb: float
    output: Array

    @property
    def repeats(self) -> int:
        """Steps of one turn."""
        return _repeats(self.seconds)


@dataclass(frozen=True)
class Result:
    """A contestant beside the reference. `speeds` are the reference's seconds by its own, one for
    each round; `private_gb` is without the pages of mapped files, which a system can drop."""

    contestant: Contestant
    threads: int
    seconds: tuple[float, ...]
    speeds: tuple[float, ...]
    peak_gb: float
    private_gb: float
    decibels: float

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds)

    @property
    def speed(self) -> float:
        """How many times as fast as the reference, within the rounds of both."""
        return statistics.median(self.speeds)


def _repeats(seconds: float) -> int:
    return max(1, round(_SHORTEST / seconds))


def thread_counts() -> list[int]:
    """1, 2, 4 and so on, up to all cores."""
    cores = os.cpu_count() or 1
    powers = [2**i for i in range(cores.bit_length()) if 2**i < cores]
    return [*powers, cores]


def try_alone(measured: Measured, contestant: Contestant, counts: Sequence[int], say: Say) -> Trial:
    """Load it once for each count; the fastest turn decides, for it is disturbed least."""
    best: Trial | None = None
    for threads in counts:
        child = Child(measured, contestant, threads)
        repeats = _repeats(child.step())
        seconds = min(child.step(repeats) for _ in range(_TRIED_TURNS))
        say(f"{contestant.label}, {threads} threads: {seconds:.3f} s")
        if best is None or seconds < best.seconds:
            best = Trial(contestant, threads, seconds, child.memory().peak, child.output())
        child.close()
    assert best is not None
    return best


def best_torch(trials: Sequence[Trial]) -> Trial:
    """The fastest run of torch: what the others are held against."""
    return min((t for t in trials if t.contestant.form == "torch"), key=lambda t: t.seconds)


def groups(trials: Sequence[Trial], reference: Trial, memory_gb: float) -> list[list[Trial]]:
    """Contestants that fit into memory together; the reference is in every group.

    The small ones come first, so that they share a group and not the room beside a large one.
    """
    result: list[list[Trial]] = []
    for trial in sorted(trials, key=lambda trial: trial.peak_gb):
        if trial is reference:
            continue
        for group in result:
            if sum(member.peak_gb for member in group) + trial.peak_gb <= memory_gb:
                group.append(trial)
                break
        else:
            result.append([reference, trial])
    return result or [[reference]]


def alternate(
    measured: Measured, group: Sequence[Trial], exact: Array, rounds: int, say: Say
) -> list[Result]:
    """Steps in turn, the first of the group being the reference."""
    children = [Child(measured, trial.contestant, trial.threads) for trial in group]
    turns = [
        partial(child.step, trial.repeats) for trial, child in zip(group, children, strict=True)
    ]
    times = in_turn(
        turns, rounds, lambda taken: say("round: " + ", ".join(f"{each:.3f}" for each in taken))
    )
    results = []
    for trial, child, taken in zip(group, children, times, strict=True):
        memory = child.memory()
        results.append(
            Result(
                trial.contestant,
                trial.threads,
                tuple(taken),
                tuple(theirs / own for theirs, own in zip(times[0], taken, strict=True)),
                memory.peak,
                memory.private,
                psnr_db(exact, trial.output),
            )
        )
        child.close()
    return results
