"""Freed memory, given back to the system."""

from __future__ import annotations

import ctypes
import os


def give_back() -> None:
    """glibc keeps freed blocks for itself; the next network should find the memory free."""
    if os.name == "posix" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
