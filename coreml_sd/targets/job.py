"""What the conversion of one component needs, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coreml_sd.compress.source_network import OpenedSource
from coreml_sd.manifest.form import TargetFacts
from coreml_sd.models.component import ComponentSpec
from coreml_sd.parity.checks import ComponentParity
from coreml_sd.parity.reference import Reference
from coreml_sd.progress import Progress
from coreml_sd.targets.plan import Plan


@dataclass(frozen=True)
class ConversionJob:
    """One component on its way into the bundle that is made in `staging`.

    With `verify` what is written is executed and held against the source, and against `own`, the
    network as diffusers opens it, where it does.
    """

    plan: Plan
    component: ComponentSpec
    source: OpenedSource
    staging: Path
    verify: bool
    progress: Progress
    own: Reference | None = None


@dataclass(frozen=True)
class Converted:
    """The files of a component for one target, and their proof where one was asked for."""

    facts: TargetFacts
    parity: ComponentParity | None = None
