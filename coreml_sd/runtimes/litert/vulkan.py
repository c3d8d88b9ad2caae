"""The Vulkan driver that the GPU delegate runs on: the user's, ours (Mesa lavapipe), the system's.

On Linux the delegate needs Vulkan; Mesa's lavapipe draws on the CPU, from release 25 on with all
that the delegate asks for. `scripts/lavapipe` puts it into a cache folder without touching the
system.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from coreml_sd.files.cache_folder import cache_folder
from coreml_sd.runtimes.litert.extra import INSTALL, available

REMEDY = "run scripts/lavapipe, or install a Vulkan driver"
_CHOSEN = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
_SYSTEM = (Path("/usr/share/vulkan/icd.d"), Path("/etc/vulkan/icd.d"))
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_DRIVER = "usr/share/vulkan/icd.d/lvp_icd.json"


def lavapipe_folder() -> Path:
    """Where `scripts/lavapipe` unpacks; below COREML_SD_CACHE, by default ~/.cache/coreml-sd."""
    return cache_folder("lavapipe")


def why_no_gpu(system: Iterable[Path] = _SYSTEM) -> str | None:
    """One line why no GPU check can run here; None where it can be tried.

    Args:
        system: folders in which the system's drivers are declared.
    """
    if not available():
        return f"the extra `android` is not installed: {INSTALL}"
    if not sys.platform.startswith("linux") or _chosen() or _unpacked():
        return None
    if any(any(folder.glob("*.json")) for folder in system):
        return None
    return f"no Vulkan driver here: {REMEDY}"


def gpu_environment() -> dict[str, str]:
    """The environment for a process that uses the GPU delegate.

    A driver chosen by VK_DRIVER_FILES or VK_ICD_FILENAMES stays; next comes the unpacked lavapipe;
    without either the environment is left as it is, and Vulkan finds the system's driver.
    """
    environment = dict(os.environ)
    folder = lavapipe_folder()
    if _chosen() or not _unpacked():
        return environment
    libraries = [str(folder / _LIBRARIES), environment.get("LD_LIBRARY_PATH", "")]
    environment["LD_LIBRARY_PATH"] = ":".join(path for path in libraries if path)
    environment["VK_DRIVER_FILES"] = environment["VK_ICD_FILENAMES"] = str(folder / _DRIVER)
    environment.setdefault("XDG_RUNTIME_DIR", str(folder))  # Mesa warns where it is not set
    return environment


def _chosen() -> bool:
    return any(os.environ.get(name) for name in _CHOSEN)


def _unpacked() -> bool:
    return sys.platform.startswith("linux") and (lavapipe_folder() / _DRIVER).is_file()
