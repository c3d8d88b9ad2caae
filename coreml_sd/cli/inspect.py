"""`coreml-sd inspect`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from coreml_sd.bundle import Bundle

_LARGEST = 5
_SOURCE = "mobile form"  # what a model is counted as, where a bundle has targets
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
    """Show what a bundle or a model is made of: parameters, MACs, bytes, ops, weights, seams.

    A bundle is read from its files alone, for every target that it holds. The predicted peak is
    all weights and the largest set of live tensors, in the types of the file.
    """
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

    bundle = open_bundle(path)
    components = {}
    for name, entry in bundle.components.items():
        targets = dict.fromkeys(file["target"] for file in entry["files"])
        components[name] = {target: _file_facts(bundle, name, target) for target in targets}
    return {"name": str(path), "kind": "bundle", "components": components}


def _file_facts(bundle: Bundle, name: str, target: str) -> dict[str, Any]:
    """What the files of one component say for one target, and what the manifest adds."""
    from coreml_sd.costs.file_costs import file_costs, merged_histogram

    costs = [file_costs(file) for file in bundle.files(name, target)]
    weights = sorted((w for c in costs for w in c.weights), key=lambda w: -w.stored_bytes)
    return {
        "files": [cost.path for cost in costs],
        "parameters": sum(cost.parameters for cost in costs),
        "macs": sum(cost.macs for cost in costs),
        "weight_bytes": sum(cost.weight_bytes for cost in costs),
        "peak_bytes": max(cost.peak_bytes for cost in costs),
        "ops": merged_histogram(costs),
        "largest": [dataclasses.asdict(weight) for weight in weights[:_LARGEST]],
        **_manifest_facts(bundle.component(name), target),
    }


def _manifest_facts(entry: dict[str, Any], target: str) -> dict[str, Any]:
    """Choices of the conversion that the files do not name."""
    if target == "tflite":
        files = [file for file in entry["files"] if file["target"] == target]
        return {
            "quantization": [file["quantization"] for file in files],
            "splits": entry["splits"],
        }
    ranked = [w["snr_db"] for w in entry["weights"] if w["snr_db"] is not None]
    return {
        "palettes": {"weights": len(ranked), "lowest_snr_db": min(ranked, default=None)},
        "seams": entry["seams"],
    }


def _model_facts(target: str) -> dict[str, Any]:
    """Counted on the mobile form, without running it."""
    from coreml_sd.config import ConversionConfig
    from coreml_sd.mobile import mobile_form
    from coreml_sd.mobile.measure import network_costs
    from coreml_sd.models.open_model import open_model

    model = open_model(ConversionConfig(model=target))
    components = {}
    for component in model.components:
        mobile = mobile_form(component.form, component.load())
        weights = sorted(mobile.named_parameters(), key=lambda item: -item[1].numel())
        costs = network_costs(mobile, component.inputs)
        components[component.name] = {
            _SOURCE: {
                "files": [],
                "parameters": sum(p.numel() for _, p in weights),
                "macs": costs.macs,
                "weight_bytes": sum(mobile.step_bytes()),
                "peak_bytes": sum(mobile.step_bytes()) + costs.activation_bytes,
                "ops": costs.ops,
                "largest": [
                    {
                        "name": name,
                        "kind": "float16",
                        "bits": 16,
                        "stored_bytes": 2 * p.numel(),
                        "shape": list(p.shape),
                    }
                    for name, p in weights[:_LARGEST]
                ],
            }
        }
    return {"name": target, "kind": "model", "components": components}


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console

    from coreml_sd.cli.console import megabytes, table

    console = Console(highlight=False)
    forms = [
        (name, form, entry)
        for name, entries in facts["components"].items()
        for form, entry in entries.items()
    ]
    rows = [
        [
            name,
            form,
            f"{entry['parameters'] / 1e6:.2f} M",
            f"{entry['macs'] / 1e9:.3f} G",
            megabytes(entry["weight_bytes"]),
            megabytes(entry["peak_bytes"]),
        ]
        for name, form, entry in forms
    ]
    columns = ["component", "form", "parameters", "MACs", "weights", "peak"]
    console.print(table(f"{facts['name']} ({facts['kind']})", columns, rows))
    for name, form, entry in forms:
        ops = ", ".join(f"{kind} {count}" for kind, count in entry["ops"].items())
        total = sum(entry["ops"].values())
        console.print(f"[bold]{name}, {form}[/bold]: {total} ops: {ops}")
        for line in _details(entry):
            console.print(f"  {line}", markup=False)


def _details(entry: dict[str, Any]) -> Iterator[str]:
    """Cuts, splits and the largest weights, one line each."""
    from coreml_sd.cli.console import megabytes

    for seam in entry.get("seams", []):
        yield f"seam {megabytes(seam['bytes'])}: {', '.join(seam['tensors'])}"
    for split in entry.get("splits", []):
        shape = f"{split['channels_in']} to {split['channels_out']} channels"
        size = f"{split['height']}x{split['width']}"
        parts = " + ".join(str(part) for part in split["parts"])
        yield f"split {split['name']}: {shape} at {size}, {split['along']} {parts}"
    for weight in entry["largest"]:
        shape = "x".join(str(n) for n in weight["shape"])
        kind = weight["kind"].removeprefix("constexpr_")
        stored = f"{weight['bits']} bits ({kind}), {megabytes(weight['stored_bytes'])}"
        yield f"{weight['name']} {shape} ({prod(weight['shape']):,}), {stored}"
    palettes = entry.get("palettes", {})
    if palettes.get("weights"):
        yield f"{palettes['weights']} palettes, lowest SNR {palettes['lowest_snr_db']:.1f} dB"
