"""The errors a user meets: one line that names the thing and the remedy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


class CoremlSDError(Exception):
    """A failure on our side (a bug, a failed gate): the command exits with status 1."""

    exit_status = 1


class UserError(CoremlSDError):
    """Something the user can put right (a path, a knob, a damaged file): exit status 2."""

    exit_status = 2


class NoRoomError(UserError):
    """The disk has too little room: what is there already is of use when some has been freed."""


class KilledError(CoremlSDError):
    """A process of ours was ended from outside or ran out of memory: the same may succeed later."""


@contextlib.contextmanager
def named(file: Path | str) -> Iterator[None]:
    """Put a file's name before what is said of its content."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{file}: {error}") from None
