"""Memory that the system refuses is told apart from a bug of ours, also while a library loads."""

import errno
import subprocess
import sys

import pytest

from coreml_sd.errors import is_out_of_memory

REFUSED = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ImportError("libcublas.so: cannot allocate memory in static TLS block"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"
    ),
    RuntimeError("can't start new thread"),
]


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: str(error) or "MemoryError")
def test_memory_was_refused(error: Exception) -> None:
    assert is_out_of_memory(error)
    try:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("Failed to import transformers") from cause
    except RuntimeError as wrapped:
        assert is_out_of_memory(wrapped)


@pytest.mark.parametrize(
    "error", [ImportError("No module named x"), KeyError("a"), OSError(2, "x")]
)
def test_negative_control_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_library_that_the_system_has_no_memory_for() -> None:
    code = """
import resource
from coreml_sd.errors import is_out_of_memory
resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))
try:
    import torch
except Exception as error:
    print(is_out_of_memory(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stdout + done.stderr
