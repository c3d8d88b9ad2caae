"""One .tflite compiled for one accelerator."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Mapping
from ctypes import c_bool, c_char_p, c_void_p
from pathlib import Path
from typing import Literal

from coreml_sd.processes.memory import give_back
from coreml_sd.runtimes.base import TensorInfo
from coreml_sd.runtimes.litert.native.buffer import Buffer
from coreml_sd.runtimes.litert.native.environment import environment
from coreml_sd.runtimes.litert.native.library import (
    LiteRTError,
    TensorType,
    call,
    counted,
    library,
    made,
)
from coreml_sd.runtimes.litert.native.options import options

_Side = Literal["Input", "Output"]


class Model:
    """A file's first signature, ready to run; `inputs` and `outputs` are names in LiteRT's order.

    It is freed by `close`, or when nothing refers to it, or at the end of the process.

    Args:
        path: the file; damaged ones may end the process.
        accelerator: `options.CPU` or `options.GPU`.
        threads: for the CPU.
        exact: 32-bit arithmetic on the GPU.
        packed: a file, not there yet, for the CPU's packed weights. It may be removed once the
            model is made.

    Raises:
        UserError: the extra `android` is missing or not of a known version.
        LiteRTError: LiteRT refuses the file.
    """

    def __init__(
        self,
        path: Path,
        accelerator: int,
        *,
        threads: int = 1,
        exact: bool = False,
        packed: Path | None = None,
    ) -> None:
        self._environment = environment()
        self._lock = threading.Lock()
        with contextlib.ExitStack() as stack:
            stack.callback(give_back)
            model = made("LiteRtCreateModelFromFile", self._environment, os.fsencode(path))
            stack.callback(library().LiteRtDestroyModel, model)
            self._signature = made("LiteRtGetModelSignature", model, 0)
            with options(accelerator, threads=threads, exact=exact, packed=packed) as chosen:
                self._handle = made("LiteRtCreateCompiledModel", self._environment, model, chosen)
            stack.callback(library().LiteRtDestroyCompiledModel, self._handle)
            self.inputs, self.outputs = self._names("Input"), self._names("Output")
            self._free = weakref.finalize(self, _close, self._lock, stack.pop_all())

    def is_fully_accelerated(self) -> bool:
        """Whether the accelerator takes every op.

        Raises:
            LiteRTError: it is closed, or LiteRT fails.
        """
        taken = c_bool()
        with self._lock:
            call("LiteRtCompiledModelIsFullyAccelerated", self._open(), ctypes.byref(taken))
        return taken.value

    def new_buffer(self, info: TensorInfo) -> Buffer:
        """A buffer for one of its inputs or outputs.

        Raises:
            LiteRTError: it is closed, there is no such tensor, or LiteRT fails.
        """
        side: _Side = "Input" if info.name in self.inputs else "Output"
        names = self.inputs if side == "Input" else self.outputs
        if info.name not in names:
            raise LiteRTError(f"{info.name} is neither an input nor an output")
        index = names.index(info.name)
        with self._lock:
            needs = made(f"LiteRtGetCompiledModel{side}BufferRequirements", self._open(), 0, index)
            tensor = made(f"LiteRtGetSignature{side}TensorByIndex", self._signature, index)
            kind = TensorType()
            call("LiteRtGetRankedTensorType", tensor, ctypes.byref(kind))
            handle = made(
                "LiteRtCreateManagedTensorBufferFromRequirements",
                self._environment,
                ctypes.byref(kind),
                needs,
            )
        return Buffer(handle, info.shape, info.dtype)

    def run(self, buffers: Mapping[str, Buffer]) -> None:
        """One pass from the buffers of the inputs to those of the outputs.

        Raises:
            LiteRTError: it is closed, a buffer has been freed, or LiteRT fails.
        """
        with contextlib.ExitStack() as stack:
            # In one order everywhere, so that two networks that share buffers cannot block.
            used = sorted(set(buffers.values()), key=id)
            handles = {buffer: stack.enter_context(buffer.held()) for buffer in used}
            sources, sinks = (
                (c_void_p * len(names))(*(handles[buffers[name]] for name in names))
                for names in (self.inputs, self.outputs)
            )
            with self._lock:
                sizes = len(sources), len(sinks)
                call("LiteRtRunCompiledModel", self._open(), 0, sizes[0], sources, sizes[1], sinks)

    def close(self) -> None:
        """Free it, after a pass that another thread is in; a second time does nothing."""
        self._free()

    def _open(self) -> c_void_p:
        if not self._free.alive:
            raise LiteRTError("it has been closed")
        return self._handle

    def _names(self, side: _Side) -> tuple[str, ...]:
        return tuple(
            self._name(side, index)
            for index in range(counted(f"LiteRtGetNumSignature{side}s", self._signature))
        )

    def _name(self, side: _Side, index: int) -> str:
        name = c_char_p()
        call(f"LiteRtGetSignature{side}Name", self._signature, index, ctypes.byref(name))
        return (name.value or b"").decode()


def _close(lock: threading.Lock, held: contextlib.ExitStack) -> None:
    with lock:
        held.close()
