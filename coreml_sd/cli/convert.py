"""`coreml-sd convert`."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import click

from coreml_sd.cli.knobs import config_from_flags, config_options

_EPILOG = """
\b
Examples:
  coreml-sd convert --palettize 6
  coreml-sd convert ./stable-diffusion-v1-5 --palettize 6 --chunks 2 -o sd15.bundle
  coreml-sd convert dream.safetensors --palettize 6
  coreml-sd convert stabilityai/sd-turbo --attention sdpa --min-os iOS18
  coreml-sd convert --config sd15.toml --size 512x768
  coreml-sd convert --target coreml,tflite --palettize 6
  coreml-sd convert --target tflite --android-profile adreno7xx --prune 0.1
  coreml-sd convert --palettize 6 --dry-run > demo.toml
"""


_LONG_PROBE, _SHORT_PROBE = 1.6, 0.3  # seconds; the progress corrects itself


@click.command("convert", epilog=_EPILOG)
@click.argument("model", required=False)
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file; flags win.")
@config_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Bundle folder. [default: NAME.bundle]"
)
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
@click.option("--no-verify", is_flag=True, help="Do not execute the files that were written.")
@click.option("--jobs", type=click.IntRange(1), help="Processes at most. [default: as fits]")
@click.option(
    "--memory", type=click.FloatRange(0, min_open=True), help="GB that all may use together."
)
@click.option(
    "--no-resume",
    is_flag=True,
    help="Begin anew after an interruption, and keep no finished components for the next run.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the resolved config, and the time, memory and disk to expect; write nothing.",
)
def command(
    model: str | None,
    file: Path | None,
    output: Path | None,
    overwrite: bool,
    no_verify: bool,
    jobs: int | None,
    memory: float | None,
    no_resume: bool,
    dry_run: bool,
    **flags: Any,
) -> None:
    """Convert MODEL to a bundle of Core ML or TFLite files and prove every file.

    MODEL is a diffusers folder, a single .safetensors file, a hub id, or `demo` (the built-in
    model, the default).
    """
    from coreml_sd.bundle import check_destination, usual_path
    from coreml_sd.cli.console import ConsoleProgress, console
    from coreml_sd.conversion.plan import plan_conversion
    from coreml_sd.conversion.planned import foresee
    from coreml_sd.conversion.prediction import TimeLeft
    from coreml_sd.models.find_model import is_single_file
    from coreml_sd.processes.probe import probe
    from coreml_sd.upstream.hidden_imports import allow_hiding
    from coreml_sd.upstream.noise import quieten

    config = config_from_flags(model, file, flags)
    quieten()
    if is_single_file(config.model):
        _unpack(Path(config.model).expanduser(), config.family)
    plan = plan_conversion(config)
    destination = output or usual_path(plan.model.source.name)
    limit = None if memory is None else int(memory * 1e9)
    if not dry_run:
        check_destination(destination, overwrite=overwrite)
    measured = probe(_LONG_PROBE if dry_run else _SHORT_PROBE)
    planned = foresee(plan, verify=not no_verify, jobs=jobs, memory=limit, measured=measured)
    if dry_run:
        from coreml_sd.cli.predicted import predicted_table
        from coreml_sd.conversion.preflight import preflight

        preflight(plan)

        click.echo(plan.config.to_toml(), nl=False)
        console.print(_describe(plan, destination), soft_wrap=True)
        console.print(predicted_table(planned))
        return
    from coreml_sd.compress.source_network import pruning_sentence
    from coreml_sd.conversion.convert import convert_planned
    from coreml_sd.conversion.parallel import runs_beside

    left = TimeLeft(planned.prediction)
    if runs_beside(plan) and no_verify:
        allow_hiding()  # the proof opens diffusers' own pipeline, which needs all of it
    with ConsoleProgress() as progress:
        progress.begun, progress.left = left.begun, left.seconds
        bundle = convert_planned(
            planned,
            destination,
            overwrite=overwrite,
            progress=progress,
            resume=not no_resume,
        )
    console.print(closing_table(bundle))
    for name, entry in bundle.components.items():
        if "pruning" in entry:
            console.print(pruning_sentence(name, entry["pruning"]), soft_wrap=True)
    if no_verify:
        console.print("Not executed (--no-verify): run `coreml-sd parity` before you trust it.")
    click.echo(str(bundle.path))


def closing_table(bundle: Any) -> Any:
    """Files, size before and after, stored form, dB; one row for a component and target."""
    from coreml_sd.cli.console import megabytes
    from coreml_sd.cli.tables import table

    rows = []
    for name, entry in bundle.components.items():
        for target in bundle.targets:
            files = [file for file in entry["files"] if file["target"] == target]
            if not files:
                continue
            rows.append(
                [
                    "\n".join(file["path"] for file in files),
                    megabytes(entry["source_bytes"]),
                    megabytes(sum(file["weight_bytes"] for file in files)),
                    _stored_as(entry, files[0]),
                    _headline(entry, target),
                    _seconds(bundle, name) if target == bundle.targets[0] else "",
                ]
            )
    columns = ["file", "fp16", "stored", "as", "file dB", "seconds"]
    return table(f"{bundle.path}: {_label(bundle)}", columns, rows, text_columns=1)


def _seconds(bundle: Any, name: str) -> str:
    return f"{bundle.seconds[name]:.1f}" if name in bundle.seconds else "-"


def _stored_as(entry: dict[str, Any], file: dict[str, Any]) -> str:
    if "quantization" in file:
        return str(file["quantization"])
    bits = sorted({weight["bits"] for weight in entry["weights"]}) or [16]
    return "/".join(str(count) for count in bits) + " bits"


def _headline(entry: dict[str, Any], target: str) -> str:
    """dB of the file against torch with the same weights."""
    parity = entry["parity"].get(target)
    if parity is None:
        return "-"
    value = next(c["value"] for c in parity["checks"] if c["name"] == parity["headline"])
    return f"{value:.1f}" if isinstance(value, float) and math.isfinite(value) else "inf"


def _label(bundle: Any) -> str:
    labels = {
        part["label"] for entry in bundle.components.values() for part in entry["parity"].values()
    }
    return "executed here; " + "; ".join(sorted(labels)) if labels else "not executed"


def _unpack(file: Path, family: str | None) -> None:
    """Unpack a single file, which takes a while, with a line of progress; once it is, nothing."""
    from coreml_sd.cli.console import ConsoleProgress
    from coreml_sd.models.checkpoints.unpack import unpacked
    from coreml_sd.progress import Stage

    with ConsoleProgress() as progress, contextlib.ExitStack() as stages:

        def show(part: str) -> None:
            stages.close()
            stages.enter_context(progress.stage(Stage("unpack", detail=f"{part} of {file.name}")))

        unpacked(file.resolve(), family, show)


def _describe(plan: Any, destination: Path) -> str:
    height, width = plan.model.facts.size
    names = ", ".join(component.name for component in plan.components)
    targets = ", ".join(plan.config.targets)
    lines = [
        f"# would convert {plan.model.source.name} ({plan.model.folder.path}) at {height}x{width} "
        f"for {targets}: {names} -> {destination}",
        *(f"# {note}" for note in plan.notes),
    ]
    return "\n".join(lines)
