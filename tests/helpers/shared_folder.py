"""What is made once for all workers of a test run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    from tests.helpers.kept_programs import KeptPrograms


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

    @functools.cached_property
    def programs(self) -> KeptPrograms:
        """The Core ML programs that this process has captured."""
        from tests.helpers.kept_programs import KeptPrograms

        return KeptPrograms()

    def bundle(self, name: str, model: Path, *, verify: bool = True, **knobs: Any) -> Path:
        """A model's bundle, converted once in this run."""
        from coreml_sd.config import ConversionConfig
        from coreml_sd.conversion.convert import convert

        config = ConversionConfig(model=str(model), **knobs)

        def make(path: Path) -> None:
            with self.programs.in_use():
                convert(config, path, verify=verify)

        return self.once(f"{name}.bundle", make)
