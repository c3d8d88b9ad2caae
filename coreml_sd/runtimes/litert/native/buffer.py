"""A buffer for one input or output, in the memory that the accelerator works on."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_int, c_void_p

import numpy as np

from coreml_sd.runtimes.base import Array
from coreml_sd.runtimes.litert.native.library import LiteRTError, call, counted, library

_READ, _WRITE = 0, 1  # LiteRtTensorBufferLockMode
_HOST = 1  # LiteRtTensorBufferType


class Buffer:
    """One tensor's memory, with its `shape` and `dtype`.

    It can be bound to every network of the same accelerator that declares this shape and dtype. One
    thread uses it at a time, others wait. It is freed by `destroy`, or when nothing refers to it,
    or at the end of the process.
    """

    def __init__(self, handle: c_void_p, shape: tuple[int, ...], dtype: str) -> None:
        self._handle, self.shape, self.dtype = handle, shape, np.dtype(dtype)
        self._lock = threading.Lock()
        self._free = weakref.finalize(self, _destroy, self._lock, handle)

    @contextmanager
    def held(self) -> Iterator[c_void_p]:
        """LiteRT's handle, for this thread alone.

        Raises:
            LiteRTError: the buffer has been freed.
        """
        with self._lock:
            if not self._free.alive:
                raise LiteRTError("the buffer has been freed")
            yield self._handle

    @property
    def on_host(self) -> bool:
        """Whether it lies in the host's memory, not in the accelerator's own.

        Raises:
            LiteRTError: the buffer has been freed.
        """
        kind = c_int()
        with self.held() as handle:
            call("LiteRtGetTensorBufferType", handle, ctypes.byref(kind))
        return kind.value == _HOST

    def write(self, array: Array) -> None:
        """Put an array of this shape and dtype in.

        Raises:
            LiteRTError: another shape or dtype, or LiteRT fails.
        """
        if array.shape != self.shape or array.dtype != self.dtype:
            needed = f"{self.shape} {self.dtype}"
            raise LiteRTError(f"{array.shape} {array.dtype} given to a buffer of {needed}")
        array = np.ascontiguousarray(array)
        with self._mapped(_WRITE, array.nbytes) as address:
            ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def read(self) -> Array:
        """A copy of what it holds.

        Raises:
            LiteRTError: LiteRT fails.
        """
        array: Array = np.empty(self.shape, self.dtype)
        with self._mapped(_READ, array.nbytes) as address:
            ctypes.memmove(array.ctypes.data, address, array.nbytes)
        return array

    def destroy(self) -> None:
        """Free it; a second time does nothing."""
        self._free()

    @contextmanager
    def _mapped(self, mode: int, size: int) -> Iterator[c_void_p]:
        """Its address on the host; on the GPU LiteRT copies behind it."""
        address = c_void_p()
        with self.held() as handle:
            if counted("LiteRtGetTensorBufferPackedSize", handle) < size:
                raise LiteRTError("the buffer is smaller than its tensor")
            call("LiteRtLockTensorBuffer", handle, ctypes.byref(address), mode)
            try:
                yield address
            finally:
                call("LiteRtUnlockTensorBuffer", handle)


def _destroy(lock: threading.Lock, handle: c_void_p) -> None:
    with lock:
        library().LiteRtDestroyTensorBuffer(handle)
