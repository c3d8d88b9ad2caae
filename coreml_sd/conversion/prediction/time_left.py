"""Time left of a conversion: what was predicted, corrected by what has been done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from coreml_sd.conversion.prediction.predict import Prediction, TimedWork
from coreml_sd.conversion.prediction.work import kind_of_stage
from coreml_sd.progress import Stage

_TRUST = 0.2  # the part of the whole that, done, counts as much as the prediction does


@dataclass
class _Share:
    """One process: its work in order, and what it does now."""

    work: tuple[TimedWork, ...]
    current: int = 0
    since: float = 0.0


class TimeLeft:
    """Told of the stages of a conversion, it says how long the rest will take."""

    def __init__(
        self, prediction: Prediction, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._shares = [_Share(share, since=clock()) for share in prediction.shares]
        self._final = _Share(prediction.final, current=-1)
        self._expected = self._took = _TRUST * prediction.seconds  # what was done, and the prior

    def begun(self, stage: Stage) -> None:
        """A stage has begun: what came before it in its process is over."""
        with self._lock:
            if stage.kind == "checksums" or stage.component == "scheduler step":
                self._end_all()
                return
            for share in self._shares:
                place = self._place(share, stage)
                if place is not None and place > share.current:
                    self._move(share, place)

    def seconds(self) -> float:
        """Until the end, as it looks now."""
        with self._lock:
            now = self._clock()
            slower = self._took / self._expected if self._expected else 1.0
            left = max((self._rest(share, slower, now) for share in self._shares), default=0.0)
            return left + self._rest(self._final, slower, now)

    def _place(self, share: _Share, stage: Stage) -> int | None:
        kind = kind_of_stage(stage)
        for index, each in enumerate(share.work):
            if each.work.component == stage.component and each.work.kind.startswith(kind):
                return index
        return None

    def _move(self, share: _Share, place: int) -> None:
        """On to a later piece; pieces that were left out had been finished before."""
        now = self._clock()
        if 0 <= share.current < len(share.work):
            self._expected += share.work[share.current].seconds
            self._took += now - share.since
        share.current, share.since = place, now

    def _end_all(self) -> None:
        for share in self._shares:
            if share.current < len(share.work):
                self._move(share, len(share.work))
        self._move(self._final, self._final.current + 1)

    def _rest(self, share: _Share, slower: float, now: float) -> float:
        coming = sum(each.seconds for each in share.work[share.current + 1 :])
        if not 0 <= share.current < len(share.work):
            return slower * coming
        # Work that takes longer than it should is about to end, as far as anyone knows.
        running = slower * share.work[share.current].seconds - (now - share.since)
        return max(running, 0.0) + slower * coming
