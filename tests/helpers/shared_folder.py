"""What is made once for all workers of a test run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock


class SharedFolder:
    """A folder that all workers of one test run see; `once` makes each thing in it once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """The file or folder of this name, made by the first who asks while the others wait."""
        path = self.path / name
        with FileLock(self.path / f"{name}.lock"):
            if not path.exists():
                partial = self.path / f"partial-{name}"
                make(partial)
                partial.rename(path)
        return path

    def bundle(self, name: str, model: Path, *, verify: bool = True, **knobs: Any) -> Path:
        """A model's bundle, converted once in this run."""
        from coreml_sd.config import ConversionConfig
        from coreml_sd.conversion.convert import convert

        config = ConversionConfig(model=str(model), **knobs)
        return self.once(f"{name}.bundle", lambda path: convert(config, path, verify=verify))
