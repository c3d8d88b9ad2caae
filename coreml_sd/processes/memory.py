"""Freed memory, given back to the system."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

_DONTNEED = 4  # MADV_DONTNEED of Linux
_M_MMAP_THRESHOLD = -3  # <malloc.h>


def give_back() -> None:
    """glibc keeps freed blocks for itself; the next network should find the memory free."""
    if os.name == "posix" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


_left = False  # whether there may be garbage that was left


def leave_garbage() -> None:
    """Python does not look for what is dead now until `collect_garbage` is called: in a process
    that ends soon, or has enough memory, that would be time lost."""
    global _left
    gc.freeze()
    _left = True


def collect_garbage() -> None:
    """Free what `leave_garbage` left, if there is any, and give it back to the system."""
    global _left
    if _left:
        _left = False
        gc.unfreeze()
        gc.collect()
        give_back()


def let_pages_go(path: Path, *, private: bool = False) -> None:
    """Pages of a file's read-only mappings leave this process, and are read again if need be.

    The system could take them at any time; until then they count as memory of the process.

    Args:
        private: mappings too that may be written to, where nobody has: what was is lost.
    """
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return
    name = str(path.resolve())
    library = ctypes.CDLL(None)
    for line in maps.read_text("utf-8", errors="surrogateescape").splitlines():
        place, rights, *_, mapped = line.split(maxsplit=5)
        if mapped == name and ("w" not in rights or (private and "p" in rights)):
            begin, end = (int(each, 16) for each in place.split("-"))
            library.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _DONTNEED)


def map_large_blocks() -> None:
    """From now on glibc asks the system for each block above 1 MiB and gives it back when it is
    freed; it would soon take them from a heap that only grows."""
    if os.name == "posix" and hasattr(ctypes.CDLL(None), "mallopt"):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)
