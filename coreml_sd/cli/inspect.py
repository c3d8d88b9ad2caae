"""`coreml-sd inspect`."""

from __future__ import annotations

import dataclasses
import json
from math import prod
from pathlib import Path
from typing import Any

import click

_LARGEST = 5
_EPILOG = """
\b
Examples:
  coreml-sd inspect demo.bundle
  coreml-sd inspect ./stable-diffusion-v1-5
  coreml-sd inspect demo.bundle --json
"""


@click.command("inspect", epilog=_EPILOG)
@click.argument("target", metavar="BUNDLE|MODEL")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(target: str, as_json: bool) -> None:
    """Show what a bundle or a model is made of: parameters, MACs, bytes, ops, palettes, seams."""
    from coreml_sd.bundle import MANIFEST_NAME
    from coreml_sd.libraries import quieten

    quieten()
    held = Path(target)
    facts = _bundle_facts(held) if (held / MANIFEST_NAME).is_file() else _model_facts(target)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        _show(facts)


def _bundle_facts(path: Path) -> dict[str, Any]:
    from coreml_sd.bundle import open_bundle
    from coreml_sd.costs import file_costs, merged_histogram

    bundle = open_bundle(path)
    components = {}
    for name, entry in bundle.components.items():
        costs = [file_costs(file) for file in bundle.files(name)]
        weights = sorted((w for c in costs for w in c.weights), key=lambda w: -w.stored_bytes)
        ranked = [w["snr_db"] for w in entry["weights"] if w["snr_db"] is not None]
        components[name] = {
            "files": [cost.path for cost in costs],
            "parameters": sum(cost.parameters for cost in costs),
            "macs": sum(cost.macs for cost in costs),
            "weight_bytes": sum(cost.weight_bytes for cost in costs),
            "peak_bytes": max(cost.peak_bytes for cost in costs),
            "ops": merged_histogram(costs),
            "palettes": {"weights": len(ranked), "lowest_snr_db": min(ranked, default=None)},
            "largest": [dataclasses.asdict(weight) for weight in weights[:_LARGEST]],
            "seams": entry["seams"],
        }
    return {"name": str(path), "kind": "bundle", "components": components}


def _model_facts(target: str) -> dict[str, Any]:
    """Counted on the mobile form, without running it."""
    from coreml_sd.config import ConversionConfig
    from coreml_sd.mobile import mobile_form
    from coreml_sd.mobile.measure import network_costs
    from coreml_sd.models.open_model import open_model

    model = open_model(ConversionConfig(model=target))
    components = {}
    for component in model.components:
        mobile = mobile_form(component.name, component.load())
        weights = sorted(mobile.named_parameters(), key=lambda item: -item[1].numel())
        costs = network_costs(mobile, component.inputs)
        components[component.name] = {
            "files": [],
            "parameters": sum(p.numel() for _, p in weights),
            "macs": costs.macs,
            "weight_bytes": sum(mobile.step_bytes()),
            "peak_bytes": sum(mobile.step_bytes()) + costs.activation_bytes,
            "ops": costs.ops,
            "largest": [
                {"name": n, "shape": list(p.shape), "bits": 16, "stored_bytes": 2 * p.numel()}
                for n, p in weights[:_LARGEST]
            ],
            "seams": [],
        }
    return {"name": target, "kind": "model", "components": components}


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console

    from coreml_sd.cli.console import megabytes, table

    console = Console()
    rows = []
    for name, entry in facts["components"].items():
        rows.append(
            [
                name,
                f"{entry['parameters'] / 1e6:.2f} M",
                f"{entry['macs'] / 1e9:.3f} G",
                megabytes(entry["weight_bytes"]),
                megabytes(entry["peak_bytes"]),
            ]
        )
    columns = ["component", "parameters", "MACs", "weights", "predicted peak"]
    console.print(table(f"{facts['name']} ({facts['kind']})", columns, rows))
    for name, entry in facts["components"].items():
        if entry["ops"]:
            ops = ", ".join(f"{kind} {count}" for kind, count in entry["ops"].items())
            console.print(f"[bold]{name}[/bold] ops: {ops}")
        for seam in entry["seams"]:
            console.print(f"  seam {megabytes(seam['bytes'])}: {', '.join(seam['tensors'])}")
        for weight in entry["largest"]:
            shape = "x".join(str(n) for n in weight["shape"])
            size = megabytes(weight["stored_bytes"])
            values = f"{prod(weight['shape']):,}"
            console.print(f"  {weight['name']} {shape} ({values}), {weight['bits']} bits, {size}")
        palettes = entry.get("palettes", {})
        if palettes.get("weights"):
            lowest = palettes["lowest_snr_db"]
            console.print(f"  {palettes['weights']} palettes, lowest SNR {lowest:.1f} dB")
