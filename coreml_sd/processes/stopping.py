"""What has to happen when this process is stopped from outside, told by those who own it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

Clean = Callable[[], str | None]

_cleaners: list[Clean] = []


@contextlib.contextmanager
def when_stopped(clean: Clean) -> Iterator[None]:
    """Have `clean` called if a stop comes while the block runs.

    It is called from another thread while the block still works, so it takes no locks of it; what
    it returns, if anything, is told to the user.
    """
    _cleaners.append(clean)
    try:
        yield
    finally:
        _cleaners.remove(clean)


def clean_up() -> list[str]:
    """Call all of them, the latest first; gives what they have to say."""
    said = []
    for clean in reversed(list(_cleaners)):
        with contextlib.suppress(Exception):  # one that fails must not keep the others from it
            line = clean()
            if line:
                said.append(line)
    return said
