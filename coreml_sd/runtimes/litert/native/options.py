"""How a model is compiled: the accelerator, and what is chosen for it.

Choices for an accelerator travel as a line of TOML under the accelerator's name. Source: LiteRT,
litert/c/options/litert_cpu_options.cc and litert_gpu_options.cc.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Iterator
from ctypes import c_void_p
from pathlib import Path

from coreml_sd.runtimes.litert.native.library import Destructor, call, library, made

CPU, GPU = 1, 2  # LiteRtHwAccelerators
_FP32 = 2  # LiteRtDelegatePrecision
# The text belongs to Python, which frees it when LiteRT's options are gone.
_KEEP = Destructor(lambda address: None)


@contextlib.contextmanager
def options(
    accelerator: int, *, threads: int = 1, exact: bool = False, packed: Path | None = None
) -> Iterator[c_void_p]:
    """Options for the length of a compilation.

    Args:
        accelerator: `CPU` or `GPU`; ops that it does not take are an error.
        threads: for the CPU.
        exact: 32-bit arithmetic on the GPU, which takes 16 bits by itself.
        packed: a file for the weights as the CPU's kernels want them; in memory without.

    Raises:
        LiteRTError: LiteRT refuses them.
    """
    handle = made("LiteRtCreateOptions")
    try:
        call("LiteRtSetOptionsHardwareAccelerators", handle, accelerator)
        if accelerator == CPU:
            name, text = b"xnnpack", f"num_threads = {threads}\n"
            if packed is not None:
                text += f"weight_cache_file_path = {json.dumps(str(packed))}\n"
        else:
            name, text = b"gpu_options", f"precision = {_FP32}\n" if exact else ""
        payload = ctypes.create_string_buffer(text.encode())
        address = ctypes.addressof(payload)
        chosen = made("LiteRtCreateOpaqueOptions", name, address, _KEEP)
        call("LiteRtAddOpaqueOptions", handle, chosen)
        yield handle
    finally:
        library().LiteRtDestroyOptions(handle)
