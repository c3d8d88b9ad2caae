"""What lint says about one place of one file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # worst first


@dataclass(frozen=True)
class Finding:
    """One rule broken at one op.

    `op` is its kind with its name (Core ML) or index (TFLite), or "file"; `layer` the source
    layer, or "" where the file does not tell; `why` says what goes wrong on the device, `remedy`
    what to change. An error is refused, crashes or computes wrong numbers on some device; a
    warning costs speed, memory or accuracy; a note is worth knowing.
    """

    file: str
    rule: str
    severity: Severity
    op: str
    layer: str
    why: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        """Machine-readable form."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Group:
    """Findings of one rule and severity in one file; `first` speaks for all `count`."""

    first: Finding
    count: int


def grouped(findings: list[Finding]) -> list[Group]:
    """One entry per file, rule and severity, in the order of the findings."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.file, finding.rule, finding.severity), []).append(finding)
    return [Group(members[0], len(members)) for members in groups.values()]
