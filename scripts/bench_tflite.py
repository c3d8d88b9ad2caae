#!/usr/bin/env python3
"""A UNet's .tflite, ours and the plain path, each a process of its own, in turn.

The plain path is `litert_torch.convert` on diffusers' network and ai-edge-quantizer on its file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from scripts.bench_convert import Figures, _measure, _random_folder, _replace

_PROFILES = {"fp16": "gpu", "dynamic-int8": "cpu"}


def main() -> None:
    """Measure, print the table, and put it into a document."""
    arguments = _arguments()
    if arguments.plain:
        _convert_plainly(Path(arguments.folder), arguments.plain, Path(arguments.out))
        return
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bench-tflite-") as work:
        folder = Path(arguments.folder) if arguments.folder else _random_folder(Path(work))
        rounds = [_round(folder, Path(work)) for _ in range(arguments.rounds)]
    text = _table(rounds)
    print(text)
    if arguments.write:
        _replace(Path(arguments.write), "tflite-sd15", text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="A diffusers folder instead of random weights.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", help="Where folders and results go for the while.")
    parser.add_argument("--write", help="A document with markers for the table.")
    parser.add_argument("--plain", choices=_PROFILES, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    return parser.parse_args()


def _round(folder: Path, work: Path) -> dict[str, Figures]:
    """Both quantizations by both paths once."""
    figures = {}
    for quantization, profile in _PROFILES.items():
        ours = [sys.executable, "-m", "coreml_sd.cli.main", "convert", str(folder), "--no-verify"]
        ours += ["--target", "tflite", "--components", "unet", "--android-profile", profile]
        ours += ["--quantize", quantization, "--overwrite", "-o", f"{work}/ours"]
        figures[f"ours: {quantization}"] = _measure(ours)
        plain = [sys.executable, __file__, "--folder", str(folder), "--plain", quantization]
        figures[f"plain: {quantization}"] = _measure([*plain, "--out", f"{work}/plain.tflite"])
    return figures


def _convert_plainly(folder: Path, quantization: str, out: Path) -> None:
    import litert_torch
    import torch
    from ai_edge_quantizer import quantizer

    from coreml_sd.config import ConversionConfig
    from coreml_sd.models.open_model import open_model
    from coreml_sd.targets.tflite.quantize import _recipe
    from coreml_sd.targets.tflite.quantizer_faults import worked_around

    component = open_model(ConversionConfig(model=str(folder), targets=["tflite"])).component(
        "unet"
    )
    network = component.published(component.load()).eval()
    examples = tuple(torch.zeros(spec.shape) for spec in component.inputs)
    litert_torch.convert(network, examples, lightweight_conversion=True).export(f"{out}.fp32")
    # Linear layers of the published network are FULLY_CONNECTED in the file.
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    with worked_around():
        worker = quantizer.Quantizer(f"{out}.fp32")
        worker.load_quantization_recipe(_recipe(quantization, kinds))  # type: ignore[arg-type]
        out.write_bytes(worker.quantize().quantized_model)


def _table(rounds: list[dict[str, Figures]]) -> str:
    packages = ("torch", "litert-torch", "ai-edge-quantizer")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    lines = [
        f"**sd15, UNet**, {len(rounds)} rounds ({os.cpu_count()} cores; {versions}; "
        f"{time.strftime('%Y-%m-%d')}; load {os.getloadavg()[0]:.1f} at the end):",
        "",
        "| | seconds (min to max) | CPU seconds | peak GB |",
        "|---|---|---|---|",
    ]
    for name in rounds[0]:
        seconds, cpu, peak = zip(*(each[name] for each in rounds), strict=True)
        lines.append(
            f"| {name} | {statistics.median(seconds):.1f} ({min(seconds):.1f} to "
            f"{max(seconds):.1f}) | {statistics.median(cpu):.0f} | {max(peak):.2f} |"
        )
    lines.append("")
    for name in _PROFILES:
        ratios = [each[f"plain: {name}"][0] / each[f"ours: {name}"][0] for each in rounds]
        lines.append(
            f"- {name}: the plain path takes {statistics.median(ratios):.2f} times as long"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
