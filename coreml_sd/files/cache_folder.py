"""The folder for what is made once and used again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """A folder of this name below COREML_SD_CACHE, by default ~/.cache/coreml-sd; not made here."""
    cache = os.environ.get("COREML_SD_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache/coreml-sd") / name
