"""The environment: one for the whole process, so that networks can hand each other their buffers.

LiteRT reports what it does on stderr. Its own lines are switched off, all but errors, by an option
of the environment; one line of its CPU backend cannot be, and comes once in a process, with the
first model. It is let out here, into nowhere, so that no model needs a redirection later, which
would take other threads' output with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from ctypes import c_void_p

from coreml_sd.runtimes.litert.native.library import (
    EnvironmentOption,
    LiteRTError,
    Value,
    folder,
    library,
    made,
)
from coreml_sd.runtimes.litert.native.options import CPU, GPU, options
from coreml_sd.upstream.noise import quiet_native

_LIBRARY_FOLDER, _ACCELERATORS, _LOWEST_SEVERITY = 22, 24, 25  # LiteRtEnvOptionTag
_INTEGER, _STRING = 2, 8  # LiteRtAnyType
_ERROR = 3  # LiteRtLogSeverity
_lock = threading.Lock()
_held: list[_Environment] = []


def environment() -> c_void_p:
    """The process's environment, made when it is first asked for.

    Raises:
        UserError: the extra `android` is missing or not of a known version.
        LiteRTError: LiteRT cannot make it.
    """
    if not _held:
        # The redirection first, as where a model is made inside one.
        with quiet_native(2), _lock:
            if not _held:
                _held.append(_Environment())
    return _held[0].handle


class _Environment:
    """Destroyed at the end of the process: finalizers run there in the reverse order of their
    making, so buffers and models go first."""

    def __init__(self) -> None:
        self.handle = _new()
        weakref.finalize(self, library().LiteRtDestroyEnvironment, self.handle)
        with contextlib.suppress(LiteRTError):
            _first_model(self.handle)


def _new() -> c_void_p:
    where = ctypes.create_string_buffer(os.fsencode(folder()))
    chosen = (
        (_LIBRARY_FOLDER, _STRING, ctypes.addressof(where)),
        (_ACCELERATORS, _INTEGER, CPU | GPU),
        (_LOWEST_SEVERITY, _INTEGER, _ERROR),
    )
    array = (EnvironmentOption * len(chosen))(
        *(EnvironmentOption(tag, Value(kind, value)) for tag, kind, value in chosen)
    )
    return made("LiteRtCreateEnvironment", len(chosen), array)


def _first_model(handle: c_void_p) -> None:
    """Compile a graph without ops."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    graph, empty = schema.SubGraphT(), schema.ModelT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [], [], [], []
    empty.version, empty.operatorCodes = 3, []
    empty.subgraphs, empty.buffers = [graph], [schema.BufferT()]
    builder = Builder(256)
    builder.Finish(empty.Pack(builder), file_identifier=b"TFL3")
    content = bytes(builder.Output())
    with contextlib.ExitStack() as stack:
        model = made("LiteRtCreateModelFromBuffer", handle, content, len(content))
        stack.callback(library().LiteRtDestroyModel, model)
        chosen = stack.enter_context(options(CPU))
        compiled = made("LiteRtCreateCompiledModel", handle, model, chosen)
        stack.callback(library().LiteRtDestroyCompiledModel, compiled)
