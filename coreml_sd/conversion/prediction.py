"""What a conversion will take, said before it: time, memory and disk; and the time left.

A conversion is a list of pieces of work. What each takes is linear in the size of its component,
by rates for its kind and the component's role (`scripts/fit_predictions.py` measures them).
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import operator
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coreml_sd.compress.supported import PRUNED_ROLE
from coreml_sd.conversion.parallel import choose_jobs, share_out
from coreml_sd.costs.network_size import network_size
from coreml_sd.models.folder.tokenizer_files import tokenizer_bytes
from coreml_sd.progress import Stage
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.registry import targets

RATES_FILE = Path(__file__).with_name("prediction_rates.json")
QUANTITIES = ("seconds", "memory", "disk")
FOLLOWS = 0.75  # seconds go with this power of the probe's: it says little of later minutes
_TRUST = 0.2  # the part of the whole that, done, counts as much as the prediction does


@functools.cache
def rates() -> dict[str, Any]:
    """For each of `QUANTITIES`: kind of work -> role -> what one of each of `Work.sizes` takes,
    seconds where `probe` takes one; and "probe", what it took where they were measured."""
    return dict(json.loads(RATES_FILE.read_text("utf-8")))


@dataclass(frozen=True)
class Work:
    """A piece of work: `kind` is "start", a target, its proof or "checksums"; seconds, bytes of its
    process, bytes that it writes. These are linear in `sizes`: 1, the component's parameters (1e9),
    and these times the area of its input (batch times pixels, in latents of 64x64)."""

    component: str
    kind: str
    seconds: float
    memory: float = 0.0
    disk: float = 0.0
    role: str = ""
    sizes: tuple[float, ...] = ()

    def is_done_in(self, stage: Stage) -> bool:
        """Whether a stage of a conversion belongs to it: one without a target to the first."""
        kind = f"{stage.target}-verify" if stage.kind == "verify" else stage.target
        kind = kind if stage.component else stage.kind
        return self.component == stage.component and self.kind.startswith(kind)


@dataclass(frozen=True)
class Prediction:
    """The work of each process, side by side; that of the first ends the conversion."""

    shares: tuple[tuple[Work, ...], ...]

    @property
    def seconds(self) -> float:
        """Wall time."""
        return max(sum(work.seconds for work in share) for share in self.shares)

    @property
    def memory(self) -> int:
        """Bytes at the peak of all processes together."""
        return int(sum(max(work.memory for work in share) for share in self.shares))

    @property
    def disk(self) -> int:
        """Bytes of all files."""
        return int(sum(work.disk for share in self.shares for work in share))

    def of(self, component: str) -> Prediction:
        """The part of one component."""
        every = (work for share in self.shares for work in share)
        return Prediction((tuple(work for work in every if work.component == component),))


def predict(
    plan: Plan,
    verify: bool,
    *,
    jobs: int | None = None,
    memory: int | None = None,
    measured: float | None = None,
) -> Prediction:
    """Predict a conversion from its plan and the headers of the weight files. `measured` is what
    `probe` gave here, else that of the rates; `jobs` and `memory` are as `convert` gets them.

    Raises:
        UserError: a weight file is missing or damaged.
    """
    work = functools.partial(_work, (measured or rates()["probe"]) ** FOLLOWS)
    chosen = targets(plan.config.targets)
    started = 1.0, float(any(target.holds_weights for target in chosen)), float(verify)
    ended = 1.0, float(sum(len(target.further_files(plan)) for target in chosen))

    def works(name: str) -> Iterator[Work]:
        component = plan.model.component(name)
        size = network_size(plan.model.folder, component)
        batch, _, *sides = component.inputs[0].shape
        held, area = size.parameters / 1e9, batch * math.prod(sides) / 64**2
        sizes = 1.0, held, held * area
        kept = 1 - (plan.config.prune or 0) * (component.role == PRUNED_ROLE)
        for target in chosen:
            weights = kept * target.weight_bytes(plan, name, size)
            yield work(name, target.name, component.role, sizes, weights)
            if verify:
                yield work(name, f"{target.name}-verify", component.role, sizes)

    shares = share_out(plan, max(1, choose_jobs(plan, jobs, memory)))
    shares[0].sort(key=[component.name for component in plan.components].index)
    done = [[work("", "start", "", started)] for _ in shares]
    for share, names in zip(done, shares, strict=True):
        share += itertools.chain.from_iterable(map(works, names))
    done[0].append(work("", "checksums", "", ended, tokenizer_bytes(plan.model.folder)))
    return Prediction(tuple(map(tuple, done)))


class TimeLeft:
    """Told of the stages of a conversion, it says how long the rest will take: as predicted, and
    more and more as what is done has taken."""

    def __init__(self, prediction: Prediction) -> None:
        self._lock, now = threading.Lock(), time.perf_counter()
        self.shares = [(now, share) for share in prediction.shares]  # since then the first of each
        self._expected = self._took = _TRUST * prediction.seconds  # of what is done, and at first

    def begun(self, stage: Stage) -> None:
        """A stage has begun: what is before it in its process is done, if not by an earlier run."""
        with self._lock:
            now = time.perf_counter()
            for number, (since, works) in enumerate(self.shares):
                place = next((at for at, work in enumerate(works) if work.is_done_in(stage)), 0)
                if place:
                    self._expected += works[0].seconds
                    self._took += now - since
                    self.shares[number] = now, works[place:]

    def seconds(self) -> float:
        """Until the end, as it looks now."""
        with self._lock:
            now, slower = time.perf_counter(), self._took / (self._expected or 1.0)
            # Work that takes longer than it should is about to end, as far as anyone knows.
            return max(
                max(slower * works[0].seconds - (now - since), 0.0)
                + slower * sum(work.seconds for work in works[1:])
                for since, works in self.shares
            )


def _work(
    probed: float, component: str, kind: str, role: str, sizes: tuple[float, ...], known: float = 0
) -> Work:
    """`known`: bytes that are written besides what the rates say."""
    seconds, memory, disk = (
        sum(map(operator.mul, rates()[quantity].get(kind, {}).get(role, ()), sizes))
        for quantity in QUANTITIES
    )
    return Work(component, kind, probed * seconds, memory, known + disk, role, sizes)
