"""`coreml-sd convert`."""

from __future__ import annotations

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
  coreml-sd convert stabilityai/sd-turbo --attention sdpa --min-os iOS18
  coreml-sd convert --config sd15.toml --size 512x768
  coreml-sd convert --palettize 6 --dry-run > demo.toml
"""


@click.command("convert", epilog=_EPILOG)
@click.argument("model", required=False)
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file; flags win.")
@config_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Bundle folder. [default: NAME.bundle]"
)
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
@click.option("--no-verify", is_flag=True, help="Do not execute the files that were written.")
@click.option(
    "--dry-run", is_flag=True, help="Print the resolved config and the plan; write nothing."
)
def command(
    model: str | None,
    file: Path | None,
    output: Path | None,
    overwrite: bool,
    no_verify: bool,
    dry_run: bool,
    **flags: Any,
) -> None:
    """Convert MODEL to a Core ML bundle and prove every file.

    MODEL is a diffusers folder, a hub id, or `demo` (the built-in model, the default).
    """
    from coreml_sd.bundle import check_destination
    from coreml_sd.cli.console import ConsoleProgress, console
    from coreml_sd.convert import convert, plan_conversion
    from coreml_sd.libraries import quieten

    config = config_from_flags(model, file, flags)
    quieten()
    plan = plan_conversion(config)
    destination = output or Path(f"{plan.model.source.name.split('/')[-1]}.bundle")
    if dry_run:
        click.echo(plan.config.to_toml(), nl=False)
        console.print(_describe(plan, destination))
        return
    check_destination(destination, overwrite=overwrite)
    with ConsoleProgress() as progress:
        bundle = convert(
            config, destination, overwrite=overwrite, verify=not no_verify, progress=progress
        )
    console.print(closing_table(bundle))
    if no_verify:
        console.print("Not executed (--no-verify): run `coreml-sd parity` before you trust it.")
    click.echo(str(bundle.path))


def closing_table(bundle: Any) -> Any:
    """Component, file, size before and after, bits, dB, seconds."""
    from coreml_sd.cli.console import megabytes, table

    rows = []
    for name, entry in bundle.components.items():
        bits = sorted({weight["bits"] for weight in entry["weights"]}) or [16]
        after = sum(file["weight_bytes"] for file in entry["files"])
        rows.append(
            [
                name,
                ", ".join(file["path"] for file in entry["files"]),
                megabytes(entry["source_bytes"]),
                megabytes(after),
                "/".join(str(count) for count in bits),
                _headline(entry),
                f"{entry['seconds']:.1f}",
            ]
        )
    columns = ["component", "file", "fp16", "stored", "bits", "file dB", "seconds"]
    return table(f"{bundle.path}: executed here, {_label(bundle)}", columns, rows)


def _headline(entry: dict[str, Any]) -> str:
    """dB of the file in fp16 against torch with the same weights."""
    checks = entry.get("parity", {}).get("checks", ())
    found = [check["value"] for check in checks if check["name"].startswith("file in fp16")]
    if not found:
        return "-"
    return f"{found[0]:.1f}" if isinstance(found[0], float) and math.isfinite(found[0]) else "inf"


def _label(bundle: Any) -> str:
    labels = {entry["parity"]["label"] for entry in bundle.components.values() if "parity" in entry}
    return next(iter(labels), "nothing was executed")


def _describe(plan: Any, destination: Path) -> str:
    height, width = plan.model.facts.size
    names = ", ".join(component.name for component in plan.components)
    return (
        f"# would convert {plan.model.source.name} ({plan.model.folder.path}) at {height}x{width}: "
        f"{names} -> {destination}"
    )
