"""Prints the variables with which the Swift tests find a GPU, `NAME=value` a line.

Nothing where there is none.
"""

from __future__ import annotations

import os
import sys

from coreml_sd.runtimes.litert.vulkan import gpu_environment, why_no_gpu

if __name__ == "__main__":
    if lacking := why_no_gpu():
        print(f"Swift tests on the GPU left out: {lacking}", file=sys.stderr)
    elif sys.platform.startswith("linux"):
        changed = {k: v for k, v in gpu_environment().items() if os.environ.get(k) != v}
        for name, value in {**changed, "LITERT_TEST_GPU": "1"}.items():
            print(f"{name}={value}")
