"""The errors a user meets: one line that names the thing and the remedy."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

# What the loader, numpy, torch and C++ say where the system refuses memory.
_NO_MEMORY = (
    "cannot allocate memory",
    "can't allocate memory",
    "failed to map segment",
    "unable to allocate",
    "bad_alloc",
    "out of memory",
    "can't start new thread",
)


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what led to it, says that memory was refused.

    Where little is allowed (`ulimit -v`), a library may not even be loaded: the import fails, with
    the system's reason in its text.
    """
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        if isinstance(each, MemoryError) or getattr(each, "errno", None) == errno.ENOMEM:
            return True
        if any(text in str(each).lower() for text in _NO_MEMORY):
            return True
        each = each.__cause__ or each.__context__
    return False


def one_line(message: str) -> str:
    """A message for a terminal: no line ends, and no character that would steer it."""
    joined = " ".join(message.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
