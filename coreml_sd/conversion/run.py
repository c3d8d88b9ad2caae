"""What one run of a conversion has in common for all of its components."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from coreml_sd.models.component import ComponentSpec
from coreml_sd.progress import Progress
from coreml_sd.targets.plan import Plan


@dataclass(frozen=True)
class ConversionRun:
    """A plan on its way into `staging`, the folder that becomes the bundle.

    `verify`: every file is executed. `jobs` are the processes that may be used at most, and
    `memory` the bytes that all of them may use together; None where the caller left it open.
    """

    plan: Plan
    staging: Path
    verify: bool
    progress: Progress
    jobs: int | None = None
    memory: int | None = None

    def only(self, components: tuple[ComponentSpec, ...]) -> ConversionRun:
        """The same for some of the components."""
        return dataclasses.replace(self, plan=dataclasses.replace(self.plan, components=components))

    def on_threads(self, threads: int | None) -> ConversionRun:
        """The same with so many threads for the work on weights."""
        return dataclasses.replace(self, plan=dataclasses.replace(self.plan, threads=threads))
