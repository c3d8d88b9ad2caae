"""The library itself: which functions are used, with which arguments, and what a status means.

Source: LiteRT's headers, litert/c/*.h; they are the same in 2.2 and 2.3 for all that stands here.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
from ctypes import POINTER, c_bool, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.runtimes.litert.extra import INSTALL, require_android

# The library says nothing on its version, and functions have changed their arguments before.
VERSION = "2.3"
_FILES = ("libLiteRt.so", "libLiteRt.dylib", "libLiteRt.dll")
_MAX_RANK = 8
_MEANINGS = {
    1: "invalid argument",
    2: "not enough memory",
    3: "runtime failure",
    5: "unsupported",
    6: "not found",
    500: "the file cannot be read",
    501: "invalid file",
    502: "a library could not be loaded",
    504: "some ops are not taken by the accelerator",
}


class LiteRTError(CoremlSDError):
    """A call that LiteRT did not carry out."""


class Value(ctypes.Structure):
    """LiteRtAny: a value with its type; of the union only integers and addresses are used."""

    _fields_ = (("type", c_int), ("value", c_int64))


class EnvironmentOption(ctypes.Structure):
    """LiteRtEnvOption."""

    _fields_ = (("tag", c_int), ("value", Value))


class TensorType(ctypes.Structure):
    """LiteRtRankedTensorType with its LiteRtLayout."""

    _fields_ = (
        ("element", c_int),
        ("rank", c_uint32, 7),
        ("has_strides", c_uint32, 1),
        ("dimensions", c_int32 * _MAX_RANK),
        ("strides", c_uint32 * _MAX_RANK),
    )


Destructor = ctypes.CFUNCTYPE(None, c_void_p)
_HANDLE, _OUT = c_void_p, POINTER(c_void_p)
_RETURN_STATUS: dict[str, tuple[Any, ...]] = {
    "LiteRtCreateEnvironment": (c_int, POINTER(EnvironmentOption), _OUT),
    "LiteRtCreateModelFromFile": (_HANDLE, c_char_p, _OUT),
    "LiteRtCreateModelFromBuffer": (_HANDLE, c_char_p, c_size_t, _OUT),
    "LiteRtGetModelSignature": (_HANDLE, c_size_t, _OUT),
    "LiteRtGetNumSignatureInputs": (_HANDLE, POINTER(c_size_t)),
    "LiteRtGetNumSignatureOutputs": (_HANDLE, POINTER(c_size_t)),
    "LiteRtGetSignatureInputName": (_HANDLE, c_size_t, POINTER(c_char_p)),
    "LiteRtGetSignatureOutputName": (_HANDLE, c_size_t, POINTER(c_char_p)),
    "LiteRtGetSignatureInputTensorByIndex": (_HANDLE, c_size_t, _OUT),
    "LiteRtGetSignatureOutputTensorByIndex": (_HANDLE, c_size_t, _OUT),
    "LiteRtGetRankedTensorType": (_HANDLE, POINTER(TensorType)),
    "LiteRtCreateOptions": (_OUT,),
    "LiteRtSetOptionsHardwareAccelerators": (_HANDLE, c_int),
    "LiteRtCreateOpaqueOptions": (c_char_p, c_void_p, Destructor, _OUT),
    "LiteRtAddOpaqueOptions": (_HANDLE, _HANDLE),
    "LiteRtCreateCompiledModel": (_HANDLE, _HANDLE, _HANDLE, _OUT),
    "LiteRtCompiledModelIsFullyAccelerated": (_HANDLE, POINTER(c_bool)),
    "LiteRtGetCompiledModelInputBufferRequirements": (_HANDLE, c_size_t, c_size_t, _OUT),
    "LiteRtGetCompiledModelOutputBufferRequirements": (_HANDLE, c_size_t, c_size_t, _OUT),
    "LiteRtCreateManagedTensorBufferFromRequirements": (
        _HANDLE,
        POINTER(TensorType),
        _HANDLE,
        _OUT,
    ),
    "LiteRtGetTensorBufferPackedSize": (_HANDLE, POINTER(c_size_t)),
    "LiteRtGetTensorBufferType": (_HANDLE, POINTER(c_int)),
    "LiteRtLockTensorBuffer": (_HANDLE, _OUT, c_int),
    "LiteRtUnlockTensorBuffer": (_HANDLE,),
    "LiteRtRunCompiledModel": (_HANDLE, c_size_t, c_size_t, _OUT, c_size_t, _OUT),
}
_RETURN_NOTHING = (
    "LiteRtDestroyEnvironment",
    "LiteRtDestroyModel",
    "LiteRtDestroyOptions",
    "LiteRtDestroyCompiledModel",
    "LiteRtDestroyTensorBuffer",
)


@functools.cache
def library() -> ctypes.CDLL:
    """LiteRT's library from the wheel, its functions declared.

    Raises:
        UserError: the extra `android` is missing, or of a version that is not known here.
    """
    require_android()
    version = importlib.metadata.version("ai-edge-litert")
    if not version.startswith(f"{VERSION}."):
        raise UserError(f"ai-edge-litert {version}: needs {VERSION}; {INSTALL}")
    found = [path for name in _FILES if (path := folder() / name).is_file()]
    try:
        return _declared(ctypes.CDLL(str(found[0])))
    except (IndexError, OSError, AttributeError) as error:
        reason = str(error) if found else f"no LiteRT library in {folder()}"
        raise UserError(f"ai-edge-litert {version} cannot be used ({reason}); {INSTALL}") from None


def folder() -> Path:
    """Where the wheel keeps its libraries, that for the GPU too."""
    spec = importlib.util.find_spec("ai_edge_litert")
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else Path()


def call(name: str, *arguments: Any) -> None:
    """Call a function that gives a status.

    Raises:
        LiteRTError: the status is not 0.
    """
    status = getattr(library(), name)(*arguments)
    if status:
        raise LiteRTError(_MEANINGS.get(status, f"status {status}"))


def made(name: str, *arguments: Any) -> c_void_p:
    """Call a function whose last argument takes a new handle; gives the handle.

    Raises:
        LiteRTError: the status is not 0.
    """
    handle = c_void_p()
    call(name, *arguments, ctypes.byref(handle))
    return handle


def counted(name: str, handle: c_void_p) -> int:
    """Call a function that tells a number of a handle.

    Raises:
        LiteRTError: the status is not 0.
    """
    number = c_size_t()
    call(name, handle, ctypes.byref(number))
    return number.value


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    for name, arguments in _RETURN_STATUS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, c_int
    for name in _RETURN_NOTHING:
        function = getattr(loaded, name)
        function.argtypes, function.restype = (_HANDLE,), None
    return loaded
