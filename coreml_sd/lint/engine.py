"""Run the rules over the files of a bundle, or over one file."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from coreml_sd.bundle import Bundle
from coreml_sd.errors import UserError
from coreml_sd.lint.finding import SEVERITIES, Finding
from coreml_sd.lint.rule import Rule, RuleSet
from coreml_sd.targets.tflite.profiles import Profile, profile

DEFAULT_PROFILE = "gpu"

View = TypeVar("View")


def all_rules() -> list[Rule[Any]]:
    """Every registered rule by its id, Core ML first."""
    by_id = operator.attrgetter("id")
    return [*sorted(_coreml_rules().rules, key=by_id), *sorted(_tflite_rules().rules, key=by_id)]


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
    return [(bundle.path / entry["path"], entry["path"]) for entry in bundle.all_files()]


def _lint_file(path: Path, name: str, device: Profile) -> list[Finding]:
    linters = {".mlpackage": _lint_mlpackage, ".tflite": _lint_tflite}
    if path.suffix not in linters:
        raise UserError(f"{path}: lint reads bundles, .mlpackage and .tflite")
    order = {severity: place for place, severity in enumerate(SEVERITIES)}
    found = linters[path.suffix](path, name, device)
    return sorted(found, key=lambda finding: (order[finding.severity], finding.rule))


def _lint_mlpackage(path: Path, name: str, device: Profile) -> Iterator[Finding]:
    from coreml_sd.runtimes.mil.package import MilPackage
    from coreml_sd.targets.coreml.lint_view import MilView

    rules = _coreml_rules()
    return _broken(rules.rules, MilView(MilPackage(path)), name)


def _lint_tflite(path: Path, name: str, device: Profile) -> Iterator[Finding]:
    from coreml_sd.runtimes.litert.file import TFLiteFile
    from coreml_sd.targets.tflite.lint_view import TFLiteView

    on_gpu = device.accelerator == "gpu"
    rules = [rule for rule in _tflite_rules().rules if on_gpu or not rule.gpu_only]
    return _broken(rules, TFLiteView(TFLiteFile(path), device), name)


# Importing a module of rules registers them. Each kind is imported when it is needed: Core ML's
# reader takes seconds.


def _coreml_rules() -> RuleSet[Any]:
    from coreml_sd.targets.coreml import lint_numeric_rules as coreml_numeric_rules  # noqa: F401
    from coreml_sd.targets.coreml import lint_rules as coreml_rules  # noqa: F401
    from coreml_sd.targets.coreml.lint_view import COREML

    return COREML


def _tflite_rules() -> RuleSet[Any]:
    from coreml_sd.targets.tflite import lint_fp16_rules as tflite_fp16_rules  # noqa: F401
    from coreml_sd.targets.tflite import lint_rules as tflite_rules  # noqa: F401
    from coreml_sd.targets.tflite.lint_view import TFLITE

    return TFLITE


def _broken(rules: Iterable[Rule[View]], view: View, name: str) -> Iterator[Finding]:
    for rule in rules:
        for hit in rule.check(view):
            severity = hit.severity or rule.severity
            yield Finding(name, rule.id, severity, hit.op, hit.layer, hit.why, hit.remedy)
