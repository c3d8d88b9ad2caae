"""`coreml-sd lint`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

_FILES = (".mlpackage", ".tflite")
_STYLES = {"error": "red", "warning": "yellow", "note": "cyan"}
_EPILOG = """
\b
Examples:
  coreml-sd lint demo.bundle
  coreml-sd lint demo.bundle/Unet.tflite --android-profile mali
  coreml-sd lint demo.bundle --json
  coreml-sd lint --rules
"""


@click.command("lint", epilog=_EPILOG)
@click.argument("path", metavar="[BUNDLE|FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option(
    "--android-profile",
    "profile_name",
    help="Device that .tflite files are for: cpu, gpu, adreno7xx, adreno6xx, mali. "
    "[default: the bundle's own, else gpu]",
)
@click.option("--rules", "list_rules", is_flag=True, help="List all rules.")
def command(path: Path | None, as_json: bool, profile_name: str | None, list_rules: bool) -> None:
    """Find what would hurt on a device in BUNDLE, a .mlpackage or a .tflite, from the files alone.

    Nothing is executed. Exit status 1 where there is an error.
    """
    from coreml_sd.targets.saved_files import device_of, lint_files

    if list_rules:
        _show_rules(as_json)
        return
    if path is None:
        raise click.UsageError("name a bundle, a .mlpackage or a .tflite (or --rules)")
    target = _open(path)
    device = profile_name or device_of(target)
    findings = lint_files(target, device)
    if as_json:
        report = {
            "path": str(path),
            "android_profile": device,
            "counts": _counts(findings),
            "findings": [finding.to_json() for finding in findings],
        }
        click.echo(json.dumps(report, indent=2))
    else:
        _show(path, device, findings)
    sys.exit(1 if _counts(findings)["error"] else 0)


def _open(path: Path) -> Any:
    """The bundle, checked against its manifest, or the path of one file."""
    from coreml_sd.bundle import open_bundle
    from coreml_sd.errors import UserError

    if path.suffix not in _FILES:
        if path.is_file():
            raise UserError(f"{path}: lint reads bundles, {' and '.join(_FILES)}")
        return open_bundle(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    return path


def _counts(findings: list[Any]) -> dict[str, int]:
    from coreml_sd.lint.finding import SEVERITIES

    return {name: sum(f.severity == name for f in findings) for name in SEVERITIES}


def _show(path: Path, device: Any, findings: list[Any]) -> None:
    """One row per file and rule: where it was met first, why it matters, what to change."""
    from rich.markup import escape

    from coreml_sd.cli.console import results
    from coreml_sd.cli.tables import table
    from coreml_sd.lint.finding import grouped

    rows = []
    for group in grouped(findings):
        first = group.first
        style = _STYLES[first.severity]
        where = f"{first.op} in {first.layer}" if first.layer else first.op
        more = f" and {group.count - 1} more" if group.count > 1 else ""
        text = f"{where}{more}\n{first.why}\nTo do: {first.remedy}"
        name = f"[{style}]{first.severity}[/{style}] {first.rule}\n{escape(first.file)}"
        rows.append([name, escape(text), str(group.count)])
    console = results()
    title = f"{path} (Android profile {device})"
    if rows:
        console.print(table(title, ["rule and file", "where, why, what to change", "ops"], rows))
    counts = _counts(findings)
    summary = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())
    console.print(f"{escape(str(path))}: {summary}", style="bold", soft_wrap=True)


def _show_rules(as_json: bool) -> None:
    from coreml_sd.cli.console import results
    from coreml_sd.cli.tables import table
    from coreml_sd.targets.saved_files import all_rules

    if as_json:
        facts = [
            {
                "id": r.id,
                "severity": r.severity,
                "gpu_only": r.gpu_only,
                "description": r.description,
            }
            for r in all_rules()
        ]
        click.echo(json.dumps(facts, indent=2))
        return
    rows = [
        [rule.id, rule.description, f"[{_STYLES[rule.severity]}]{rule.severity}"]
        for rule in all_rules()
    ]
    results().print(table("rules", ["rule", "what it finds", "severity"], rows))
