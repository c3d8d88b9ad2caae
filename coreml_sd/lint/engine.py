"""Run the rules over the files of a bundle, or over one file."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from coreml_sd.bundle import Bundle
from coreml_sd.errors import UserError
from coreml_sd.lint import coreml_numeric_rules, coreml_rules, tflite_fp16_rules, tflite_rules
from coreml_sd.lint.finding import SEVERITIES, Finding
from coreml_sd.lint.mil_view import COREML, MilView
from coreml_sd.lint.rule import Rule, RuleSet
from coreml_sd.lint.tflite_view import TFLITE, TFLiteView
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.runtimes.mil.package import MilPackage
from coreml_sd.targets.tflite.profiles import Profile, profile

# Importing a module of rules registers them.
RULE_MODULES = (coreml_rules, coreml_numeric_rules, tflite_rules, tflite_fp16_rules)
DEFAULT_PROFILE = "gpu"

View = TypeVar("View")


def all_rules() -> list[Rule[MilView] | Rule[TFLiteView]]:
    """Every registered rule by its id, Core ML first."""
    by_id = operator.attrgetter("id")
    return [*sorted(COREML.rules, key=by_id), *sorted(TFLITE.rules, key=by_id)]


def default_profile(target: Bundle | Path) -> Profile:
    """The profile that a bundle was converted for; `gpu` where nothing says.

    Raises:
        UserError: the manifest names an unknown profile.
    """
    config = target.manifest["config"] if isinstance(target, Bundle) else {}
    return profile(config.get("tflite", {}).get("android_profile", DEFAULT_PROFILE))


def lint_bundle(target: Bundle | Path, device: Profile) -> list[Finding]:
    """Findings of a bundle, or of one .tflite or .mlpackage, worst first within each file.

    Raises:
        UserError: a file is missing, damaged or of another kind.
    """
    files = _files(target) if isinstance(target, Bundle) else [(target, target.name)]
    return [finding for path, name in files for finding in _lint_file(path, name, device)]


def _files(bundle: Bundle) -> list[tuple[Path, str]]:
    entries = [entry for component in bundle.components.values() for entry in component["files"]]
    return [(bundle.path / entry["path"], entry["path"]) for entry in entries]


def _lint_file(path: Path, name: str, device: Profile) -> list[Finding]:
    if path.suffix == ".mlpackage":
        found = _broken(COREML, MilView(MilPackage(path)), name)
    elif path.suffix == ".tflite":
        cpu = device.accelerator == "cpu"
        found = _broken(TFLITE, TFLiteView(TFLiteFile(path), device), name, leave_out_gpu=cpu)
    else:
        raise UserError(f"{path}: lint reads bundles, .mlpackage and .tflite")
    order = {severity: place for place, severity in enumerate(SEVERITIES)}
    return sorted(found, key=lambda finding: (order[finding.severity], finding.rule))


def _broken(
    rules: RuleSet[View], view: View, name: str, *, leave_out_gpu: bool = False
) -> Iterable[Finding]:
    for rule in rules.rules:
        if rule.gpu_only and leave_out_gpu:
            continue
        for hit in rule.check(view):
            severity = hit.severity or rule.severity
            yield Finding(name, rule.id, severity, hit.op, hit.layer, hit.why, hit.remedy)
