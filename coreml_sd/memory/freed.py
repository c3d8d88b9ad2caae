"""Freed memory, given back to the system."""

from __future__ import annotations

import ctypes
import gc
import os
from typing import Any

_M_MMAP_THRESHOLD = -3  # <malloc.h>


def give_back() -> None:
    """glibc keeps freed blocks for itself; the next network should find the memory free."""
    if os.name == "posix" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


def map_large_blocks() -> None:
    """From now on glibc asks the system for each block above 1 MiB and gives it back when it is
    freed; it would soon take them from a heap that only grows."""
    if os.name == "posix" and hasattr(ctypes.CDLL(None), "mallopt"):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def let_go(*networks: Any) -> None:
    """Free the weights of torch modules that nobody runs again, whoever still holds the modules.

    Names and shapes stay; every value is zero afterwards.
    """
    import torch

    for network in networks:
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.data = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
    gc.collect()
    give_back()
