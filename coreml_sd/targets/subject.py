"""One component of a finished bundle, looked at for one target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from coreml_sd.manifest.form import NetworkFacts, TargetFacts
from coreml_sd.models.component import ComponentSpec
from coreml_sd.parity.checks import Check, ComponentParity, count_check
from coreml_sd.parity.reference import Reference
from coreml_sd.parity.told import told_check
from coreml_sd.progress import Progress
from coreml_sd.targets.plan import Plan


@dataclass(frozen=True)
class Subject:
    """One component of a bundle, what the bundle says of it, and what it is held against.

    `facts` are those that hold for every target; `source` is the network as it was read here,
    `own` as diffusers' own pipeline opens it, where it does.
    """

    plan: Plan
    component: ComponentSpec
    folder: Path
    entry: Mapping[str, Any]
    facts: NetworkFacts
    source: Any
    own: Reference | None
    progress: Progress

    def files(self, target: str) -> list[dict[str, Any]]:
        """What the bundle says of the files of one target, in running order."""
        return [file for file in self.entry["files"] if file["target"] == target]

    def check(self, target: str, expected: TargetFacts) -> Check:
        """The component's entry, as far as it is about `target`, against what it has to be."""
        keys = {**to_builtins(self.facts), **to_builtins(expected)}
        found = {key: self.entry[key] for key in keys if key in self.entry}
        found["files"] = self.files(target)
        return told_check("facts of the manifest", keys, found, measured=True)

    def absent(self, target: str, wanted: list[str]) -> ComponentParity | None:
        """The verdict where the files are not those that there should be: nothing is executed."""
        found = [file["path"] for file in self.files(target)]
        if found == wanted:
            return None
        detail = f"{', '.join(wanted)} should be there, not {', '.join(found) or 'nothing'}"
        check = count_check("files of the network: differences", 1, detail)
        return ComponentParity(self.component.name, target, "not executed", check.name, (check,))
