"""The errors a user meets: one line that names the thing and the remedy."""

from __future__ import annotations

import errno

# How libraries and the loader say that memory was refused.
_NO_MEMORY = (
    "Cannot allocate memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to map segment",
    "bad_alloc",
    "can't start new thread",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused, in whatever words: nothing that was read is at fault then."""
    refused = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or refused or any(w in str(error) for w in _NO_MEMORY)


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
