"""`coreml-sd gpu`."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import click

_EPILOG = """
\b
Examples:
  coreml-sd gpu demo.bundle
  coreml-sd gpu demo.bundle/Unet.tflite --time-limit 600
  coreml-sd gpu sd15.bundle --compile-only       the full size: is every op taken?
"""


@click.command("gpu", epilog=_EPILOG)
@click.argument("path", metavar="BUNDLE|FILE.tflite", type=click.Path(path_type=Path))
@click.option("--compile-only", is_flag=True, help="Stop when the delegate has taken the graph.")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds for each file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(path: Path, compile_only: bool, time_limit: float, as_json: bool) -> None:
    """Run TFLite files on the real GPU delegate and compare with the CPU.

    Exit status 1 where a file is not taken whole, crashes, or differs.
    """
    from coreml_sd.cli.console import ConsoleProgress
    from coreml_sd.errors import UserError
    from coreml_sd.progress import Stage
    from coreml_sd.runtimes.litert.gpu_gate import NO_ADAPTER, check_on_gpu
    from coreml_sd.runtimes.litert.vulkan import REMEDY, why_no_gpu

    lacking = why_no_gpu()
    if lacking:
        raise UserError(lacking)
    files = _files(path)
    verdicts = []
    with ConsoleProgress() as progress, progress.stage(Stage("gpu")) as advance:
        for done, file in enumerate(files):
            advance(done, len(files))
            verdicts.append(check_on_gpu(file, compile_only=compile_only, time_limit=time_limit))
            if verdicts[-1].reason == NO_ADAPTER:
                raise UserError(f"{NO_ADAPTER}: {REMEDY}")
    if as_json:
        click.echo(json.dumps([v.to_json() for v in verdicts], indent=2, allow_nan=False))
    else:
        _show(path, verdicts)
    sys.exit(0 if all(verdict.ok for verdict in verdicts) else 1)


def _files(path: Path) -> list[Path]:
    """The file itself, or a bundle's files in running order."""
    from coreml_sd.bundle import open_bundle
    from coreml_sd.errors import UserError
    from coreml_sd.runtimes.litert.gpu_gate import tflite_files

    if path.suffix == ".tflite" and not path.is_dir():
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        return [path]
    files = tflite_files(open_bundle(path))
    if not files:
        raise UserError(f"{path}: holds no .tflite file; convert for Android first")
    return files


def _show(path: Path, verdicts: list[Any]) -> None:
    from coreml_sd.cli.console import results
    from coreml_sd.cli.tables import table

    rows = [
        [
            verdict.file.name,
            "all ops" if verdict.fully_accelerated else "no",
            _figure(verdict.relative_error),
            _figure(verdict.relative_error_fp16),
            _seconds(verdict.compile_seconds, verdict.run_seconds),
            "passed" if verdict.ok else "[red]failed[/red]",
        ]
        for verdict in verdicts
    ]
    adapter = next((verdict.adapter for verdict in verdicts if verdict.adapter), "no GPU reached")
    columns = ["file", "on the GPU", "fp32", "fp16", "seconds", ""]
    console = results()
    title = f"{path}: relative error against the CPU, {adapter}"
    console.print(table(title, columns, rows, text_columns=1))
    for verdict in verdicts:
        if verdict.reason:
            console.print(f"{verdict.file.name}: {verdict.reason}", markup=False)


def _figure(error: float | None) -> str:
    if error is None:
        return "-"
    return f"{error:.1e}" if math.isfinite(error) else "overflow"


def _seconds(*parts: float | None) -> str:
    """Compiling and running, as a sum."""
    return " + ".join(f"{part:.1f}" for part in parts if part is not None) or "-"
