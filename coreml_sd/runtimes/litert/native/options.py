"""How a model is compiled: the accelerator, and what is chosen for it.

Choices for an accelerator travel as a line of TOML under the accelerator's name. Source: LiteRT,
litert/c/options/litert_cpu_options.cc and litert_gpu_options.cc.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from ctypes import c_void_p

from coreml_sd.runtimes.litert.native.library import Destructor, call, library, made

CPU, GPU = 1, 2  # LiteRtHwAccelerators
_FP32 = 2  # LiteRtDelegatePrecision
# The text belongs to Python, which frees it when LiteRT's options are gone.
_KEEP = Destructor(lambda address: None)


@contextlib.contextmanager
def options(accelerator: int, *, threads: int = 1, exact: bool = False) -> Iterator[c_void_p]:
    """Options for the length of a compilation.

    Args:
        accelerator: `CPU` or `GPU`; ops that it does not take are an error.
        threads: for the CPU.
        exact: 32-bit arithmetic on the GPU, which takes 16 bits by itself.

    Raises:
        LiteRTError: LiteRT refuses them.
    """
    handle = made("LiteRtCreateOptions")
    try:
        call("LiteRtSetOptionsHardwareAccelerators", handle, accelerator)
        if accelerator == CPU:
            name, text = b"xnnpack", f"num_threads = {threads}\n"
        else:
            name, text = b"gpu_options", f"precision = {_FP32}\n" if exact else ""
        payload = ctypes.create_string_buffer(text.encode())
        address = ctypes.addressof(payload)
        chosen = made("LiteRtCreateOpaqueOptions", name, address, _KEEP)
        call("LiteRtAddOpaqueOptions", handle, chosen)
        yield handle
    finally:
        library().LiteRtDestroyOptions(handle)
