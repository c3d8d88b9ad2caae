"""Resident memory of this process over time, with what happened when."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

import psutil

from coreml_sd.processes.memory import give_back

EventKind = Literal["loading", "loaded", "freed", "step", "end"]
_INTERVAL = 0.004  # seconds between two samples


@dataclass(frozen=True)
class Event:
    """Something that happened `seconds` after the start; `resident` in bytes above the start."""

    seconds: float
    kind: EventKind
    name: str
    resident: int


class MemoryLog:
    """Samples of resident bytes above the start, taken by a thread of its own, and events."""

    def __init__(self) -> None:
        give_back()  # what was freed before must not make what comes look smaller
        self._process = psutil.Process()
        self._begun = time.perf_counter()
        self._base: int = self._process.memory_info().rss
        self._over = threading.Event()
        self.samples: list[tuple[float, int]] = []
        self.events: list[Event] = []
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def add(self, kind: EventKind, name: str) -> None:
        """Note an event; safe from any thread."""
        self.events.append(Event(self._now(), kind, name, self._resident()))

    def close(self) -> None:
        """Stop sampling."""
        self.add("end", "")
        self._over.set()
        self._sampler.join()

    def to_json(self) -> dict[str, Any]:
        """Samples as `[seconds, bytes]`, events as objects."""
        return {
            "samples": [[round(seconds, 4), resident] for seconds, resident in self.samples],
            "events": [asdict(event) for event in self.events],
        }

    def _now(self) -> float:
        return time.perf_counter() - self._begun

    def _resident(self) -> int:
        resident: int = self._process.memory_info().rss
        return resident - self._base

    def _sample(self) -> None:
        while not self._over.wait(_INTERVAL):
            self.samples.append((self._now(), self._resident()))
