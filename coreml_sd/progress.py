"""How long work reports: stages with a name and, where known, a count."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

Advance = Callable[[int, int], None]  # done, of


class Progress(Protocol):
    """Shows stages; `stage` is open while its work goes on."""

    def stage(self, title: str) -> contextlib.AbstractContextManager[Advance]:
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
    def stage(self, title: str) -> Iterator[Advance]:
        """Nothing is shown."""
        yield lambda done, of: None

    def warn(self, message: str) -> None:
        """Nothing is shown."""

    def note(self, message: str) -> None:
        """Nothing is shown."""
