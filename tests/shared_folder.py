"""What is made once for all workers of a test run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
