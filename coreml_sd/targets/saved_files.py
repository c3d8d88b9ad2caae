"""What saved files of any target say: costs, attentions, and what lint finds in them."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from coreml_sd.bundle import Bundle
from coreml_sd.costs.attention_graph import AttentionGraph, attention_graph
from coreml_sd.costs.file_costs import FileCosts
from coreml_sd.costs.picture import PictureCosts, part_costs, picture_costs, rows
from coreml_sd.lint.finding import SEVERITIES, Finding
from coreml_sd.lint.rule import Rule
from coreml_sd.targets.registry import TARGETS, target_of


def file_costs(path: Path) -> FileCosts:
    """Read one saved file and count.

    Raises:
        UserError: the file is damaged or of another kind, or what reads it is not installed.
    """
    return target_of(path).costs(path)


def attentions(*paths: Path) -> AttentionGraph:
    """What the files of one network show of its attentions.

    Raises:
        UserError: a file is damaged, or what reads it is not installed.
    """
    return attention_graph(
        calls for path in paths for calls in target_of(path).attention_calls(path)
    )


def bundle_picture_costs(bundle: Bundle, target: str) -> list[PictureCosts]:
    """Of one picture, counted in the files of one target of a bundle.

    Raises:
        UserError: a file is damaged, or what reads it is not installed.
    """
    return picture_costs(
        {
            name: part_costs([file_costs(file) for file in bundle.files(name, target)], rows(entry))
            for name, entry in bundle.components.items()
            if any(file["target"] == target for file in entry["files"])
        },
        few_steps_of(bundle),
    )


def few_steps_of(bundle: Bundle) -> dict[str, int]:
    """A bundle's denoisers for few steps, each with the most that it draws with."""
    told = bundle.pipeline.get("few_steps", [])
    return {few["denoiser"]["component"]: few["steps"] for few in told}


def all_rules() -> list[Rule[Any]]:
    """Every lint rule by its id, target by target."""
    by_id = operator.attrgetter("id")
    return [rule for target in TARGETS.values() for rule in sorted(target.rules(), key=by_id)]


def device_of(subject: Bundle | Path) -> str | None:
    """The kind of device that a bundle, or one file, is for, where its target has kinds."""
    config = subject.manifest["config"] if isinstance(subject, Bundle) else {}
    devices = (target.device(config) for target in TARGETS.values())
    return next((device for device in devices if device is not None), None)


def lint_files(subject: Bundle | Path, device: str | None = None) -> list[Finding]:
    """Findings of a bundle, or of one saved file, worst first within each file.

    Args:
        device: the kind that the files are for; their own where not given.

    Raises:
        UserError: a file is missing, damaged or of another kind, or there is no such device.
    """
    device = device or device_of(subject)
    return [finding for path, name in _files(subject) for finding in _lint_file(path, name, device)]


def _files(subject: Bundle | Path) -> list[tuple[Path, str]]:
    if not isinstance(subject, Bundle):
        return [(subject, subject.name)]
    return [(subject.path / entry["path"], entry["path"]) for entry in subject.all_files()]


def _lint_file(path: Path, name: str, device: str | None) -> Iterable[Finding]:
    order = {severity: place for place, severity in enumerate(SEVERITIES)}
    found = target_of(path).lint(path, name, device)
    return sorted(found, key=lambda finding: (order[finding.severity], finding.rule))
