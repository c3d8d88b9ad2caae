"""`coreml-sd parity`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

_EPILOG = """
\b
Examples:
  coreml-sd parity demo.bundle
  coreml-sd parity sd15.bundle --html parity.html --json parity.json
  coreml-sd parity sd15.bundle --prompt "a lighthouse" --prompt "a fox in snow"
"""


@click.command("parity", epilog=_EPILOG)
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures.")
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Write the report.")
@click.option("--prompt", "prompts", multiple=True, help="Picture to draw. [default: the model's]")
@click.option("--no-pictures", is_flag=True, help="Compare the components only.")
@click.option(
    "--runtime",
    default="auto",
    show_default=True,
    help="For pictures: mil, coreml, litert; auto: one for each target.",
)
def command(
    path: Path,
    json_path: Path | None,
    html_path: Path | None,
    prompts: tuple[str, ...],
    no_pictures: bool,
    runtime: str,
) -> None:
    """Compare BUNDLE with its source model, file by file. Exit status 1 where a gate fails."""
    from coreml_sd.bundle import open_bundle, write_atomically
    from coreml_sd.cli.console import ConsoleProgress, console
    from coreml_sd.errors import UserError
    from coreml_sd.upstream.noise import quieten

    bundle = open_bundle(path)
    quieten()
    from coreml_sd.report.html import render
    from coreml_sd.report.measure import measure

    chosen = [] if no_pictures else (list(prompts) or None)
    with ConsoleProgress() as progress:
        report = measure(bundle, prompts=chosen, runtime=runtime, progress=progress)
    for table in _tables(report):
        console.print(table)
    try:
        if json_path:
            write_atomically(json_path, json.dumps(report.to_json(), indent=2) + "\n")
            click.echo(str(json_path))
        if html_path:
            write_atomically(html_path, render(report))
            click.echo(str(html_path))
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written ({error.strerror})") from None
    if report.unchecked:
        console.print(f"without a check: {', '.join(report.unchecked)}")
    console.print("every gate passed" if report.passed else "a gate failed", style="bold")
    sys.exit(0 if report.passed else 1)


def _tables(report: Any) -> list[Any]:
    from coreml_sd.cli.console import megabytes
    from coreml_sd.cli.tables import table

    columns = ["comparison", "figure", "at conversion", "gate", ""]
    tables = []
    for entry in report.compared:
        rows = [
            [_named(c), c.figure, report.at_conversion(entry, c), _gate(c), _verdict(c)]
            for c in entry.checks
        ]
        title = f"{entry.component}, {entry.target}: {entry.label}"
        tables.append(table(title, columns, rows, text_columns=1, sentences=True))
    if report.pictures:
        names = [runtime.name for runtime in report.runtimes]
        rows = [
            [row.request.prompt, str(row.request.seed), *(f"{row.psnr(n):.1f} dB" for n in names)]
            for row in report.pictures
        ]
        tables.append(table("pictures against torch", ["prompt", "seed", *names], rows))
    if report.memory:
        rows = [[p, megabytes(report.memory.peak(p))] for p in report.memory.logs]
        tables.append(table("resident memory of a picture, litert", ["policy", "peak"], rows))
    return tables


def _named(check: Any) -> str:
    from rich.markup import escape

    shows_detail = check.detail and not check.passed
    return escape(f"{check.name}: {check.detail}" if shows_detail else check.name)


def _gate(check: Any) -> str:
    return "-" if check.gate_value is None else str(check.gate)


def _verdict(check: Any) -> str:
    if check.gate_value is None:
        return ""
    return "passed" if check.passed else "[red]failed[/red]"
