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
    from rich.console import Console

    from coreml_sd.bundle import Bundle

_LARGEST = 5
_SOURCE = "mobile form"  # what a model is counted as, where a bundle has targets
_COUNTED = ("softmax", "relu", "gelu", "depthwise", "shared", "separate")
_EPILOG = """
\b
Examples:
  coreml-sd inspect demo.bundle
  coreml-sd inspect ./stable-diffusion-v1-5
  coreml-sd inspect demo.bundle --json
  coreml-sd inspect md --ablate
"""


@click.command("inspect", epilog=_EPILOG)
@click.argument("target", metavar="BUNDLE|MODEL")
@click.option(
    "--ablate", is_flag=True, help="Of a MobileDiffusion model: what each of its decisions does."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(target: str, ablate: bool, as_json: bool) -> None:
    """Show what a bundle or a model is made of: parameters, MACs, bytes, ops, weights, seams.

    A bundle is read from its files alone, for every target that it holds. The predicted peak is
    all weights and the largest set of live tensors, in the types of the file.
    """
    from coreml_sd.bundle import MANIFEST_NAME
    from coreml_sd.upstream.noise import quieten

    quieten()
    if ablate:
        _show_ablation(target, as_json)
        return
    held = Path(target)
    facts = _bundle_facts(held) if (held / MANIFEST_NAME).is_file() else _model_facts(target)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        _show(facts)


def _bundle_facts(path: Path) -> dict[str, Any]:
    from coreml_sd.bundle import open_bundle
    from coreml_sd.targets.saved_files import few_steps_of

    bundle = open_bundle(path)
    components = {}
    for name, entry in bundle.components.items():
        targets = dict.fromkeys(file["target"] for file in entry["files"])
        components[name] = {target: _file_facts(bundle, name, target) for target in targets}
    return _facts(str(path), "bundle", components, few_steps_of(bundle))


def _file_facts(bundle: Bundle, name: str, target: str) -> dict[str, Any]:
    """What the files of one component say for one target, and what the manifest adds."""
    from coreml_sd.costs.file_costs import merged_histogram
    from coreml_sd.costs.picture import rows
    from coreml_sd.targets.saved_files import few_steps_of, file_costs

    costs = [file_costs(file) for file in bundle.files(name, target)]
    weights = sorted((w for c in costs for w in c.weights), key=lambda w: -w.stored_bytes)
    is_unet = name == "unet" or name in few_steps_of(bundle)
    return {
        "files": [cost.path for cost in costs],
        "parameters": sum(cost.parameters for cost in costs),
        "macs": sum(cost.macs for cost in costs),
        "weight_bytes": sum(cost.weight_bytes for cost in costs),
        "activation_bytes": max(cost.activation_bytes for cost in costs),
        "peak_bytes": max(cost.peak_bytes for cost in costs),
        "batch": rows(bundle.component(name)),
        "ops": merged_histogram(costs),
        "largest": [dataclasses.asdict(weight) for weight in weights[:_LARGEST]],
        **({"attention": _attention_facts(bundle.files(name, target))} if is_unet else {}),
        **_manifest_facts(bundle.component(name), target),
    }


def _attention_facts(files: list[Path]) -> dict[str, Any]:
    from coreml_sd.targets.saved_files import attentions

    graph = attentions(*files)
    return {
        **{name: getattr(graph, name) for name in _COUNTED},
        "most_tokens": graph.longest,
        "largest_scores": graph.largest,
    }


def _manifest_facts(entry: dict[str, Any], target: str) -> dict[str, Any]:
    """Choices of the conversion that the files do not name."""
    files = [file for file in entry["files"] if file["target"] == target]
    if any("quantization" in file for file in files):
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
        mobile = mobile_form(component.form, component.open().module)
        weights = sorted(mobile.named_parameters(), key=lambda item: -item[1].numel())
        costs = network_costs(mobile, component.inputs)
        components[component.name] = {
            _SOURCE: {
                "files": [],
                "parameters": sum(p.numel() for _, p in weights),
                "macs": costs.macs,
                "weight_bytes": sum(mobile.step_bytes()),
                "activation_bytes": costs.activation_bytes,
                "peak_bytes": sum(mobile.step_bytes()) + costs.activation_bytes,
                "batch": component.inputs[0].shape[0],
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
    return _facts(target, "model", components, model.folder.few_step_unets)


def _facts(
    name: str, kind: str, components: dict[str, dict[str, Any]], few_steps: dict[str, int]
) -> dict[str, Any]:
    """Of all components, and of a picture in each form that has all it takes."""
    from coreml_sd.costs.picture import PartCosts, picture_costs

    counted = [field.name for field in dataclasses.fields(PartCosts)]
    parts: dict[str, dict[str, PartCosts]] = {}
    for component, forms in components.items():
        for form, entry in forms.items():
            costs = PartCosts(**{each: entry[each] for each in counted})
            parts.setdefault(form, {})[component] = costs
    pictures = {form: picture_costs(held, few_steps) for form, held in parts.items()}
    shown = {form: [dataclasses.asdict(c) for c in costs] for form, costs in pictures.items()}
    return {"name": name, "kind": kind, "components": components, "pictures": shown}


def _show_ablation(target: str, as_json: bool) -> None:
    from coreml_sd.cli.console import results
    from coreml_sd.cli.tables import table
    from coreml_sd.config import ConversionConfig
    from coreml_sd.costs.ablation import ablation
    from coreml_sd.costs.ablation_table import TABLES
    from coreml_sd.models.open_model import open_model

    rows = ablation(open_model(ConversionConfig(model=target)))
    console = results()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return
    for network in dict.fromkeys(row.network for row in rows):
        shown = [row for row in rows if row.network == network]
        for columns, cells in TABLES:
            grid = table(f"{target}: {network}", columns, [cells(r) for r in shown], text_columns=1)
            console.print(grid)


def _show(facts: dict[str, Any]) -> None:
    from coreml_sd.cli.console import megabytes, results
    from coreml_sd.cli.tables import table

    console = results()
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
    _show_pictures(facts["pictures"], console)
    for name, form, entry in forms:
        ops = ", ".join(f"{kind} {count}" for kind, count in entry["ops"].items())
        total = sum(entry["ops"].values())
        console.print(f"[bold]{name}, {form}[/bold]: {total} ops: {ops}")
        for line in _details(entry):
            console.print(f"  {line}", markup=False)


def _show_pictures(pictures: dict[str, list[dict[str, Any]]], console: Console) -> None:
    from coreml_sd.cli.console import megabytes
    from coreml_sd.cli.tables import table

    shown = [
        [
            form,
            str(costs["steps"]),
            f"{costs['macs'] / 1e9:,.1f} G",
            megabytes(costs["staged_bytes"]),
            megabytes(costs["resident_bytes"]),
        ]
        for form, held in pictures.items()
        for costs in held
    ]
    if shown:
        columns = ["one picture", "steps", "MACs", "peak, staged", "peak, resident"]
        console.print(table("", columns, shown, text_columns=1))
        console.print("staged: one component in memory at a time; resident: all of them\n")


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
    if "attention" in entry:
        held = entry["attention"]
        scores = "x".join(str(n) for n in held["largest_scores"])
        yield (
            f"attention: {held['softmax']} softmax, {held['relu']} relu; {held['shared']} with "
            f"keys that are values, {held['separate']} without; at most "
            f"{held['most_tokens']:,} tokens, scores {scores}"
        )
        yield f"{held['gelu']} GELU, {held['depthwise']} depthwise convolutions"
    palettes = entry.get("palettes", {})
    if palettes.get("weights"):
        yield f"{palettes['weights']} palettes, lowest SNR {palettes['lowest_snr_db']:.1f} dB"
