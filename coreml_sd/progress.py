"""How long work reports: stages with a name and, where known, a count."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

Advance = Callable[[int, int], None]  # done, of

# What a stage does, as people read it; `{detail}` is a file, a form of weights or a prompt.
_TITLES = {
    "load": "load",
    "preview": "preview",
    "palettes": "{detail} palettes",
    "export": "export {detail}",
    "quantize": "{detail} weights",
    "verify": "execute and compare",
    "compare": "compare with the source",
    "chain": "chained chunks against the whole",
    "draw": "{detail}",
    "unpack": "unpack {detail}",
    "look": "look at the model's files",
    "pipeline": "tokens, scheduler and sizes against diffusers' pipeline",
    "manifest": "what the bundle tells, against the source and the config",
    "memory": "resident memory, pipelined and with everything loaded",
    "checksums": "checksums",
    "gpu": "files on the GPU",
}


@dataclass(frozen=True)
class Stage:
    """One stage of long work: its kind, and which component, target and thing it is about."""

    kind: str
    component: str = ""
    target: str = ""
    detail: str = ""

    @property
    def title(self) -> str:
        """As people read it."""
        text = _TITLES[self.kind].format(detail=self.detail)
        return f"{self.component}: {text}" if self.component else text


class Progress(Protocol):
    """Shows stages; `stage` is open while its work goes on."""

    def stage(self, stage: Stage) -> contextlib.AbstractContextManager[Advance]:
        """Begin a stage; call what it gives with (done, of) where a count is known."""
        ...

    def warn(self, message: str) -> None:
        """One line the user should read."""
        ...

    def note(self, message: str) -> None:
        """One line about a choice that was made for the user."""
        ...


class Silent:
    """Shows nothing: for use as a library and in tests."""

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[Advance]:
        """Nothing is shown."""
        yield lambda done, of: None

    def warn(self, message: str) -> None:
        """Nothing is shown."""

    def note(self, message: str) -> None:
        """Nothing is shown."""
