#!/usr/bin/env python3
"""A UNet's .tflite, ours and the plain path, each a process of its own, in turn.

The plain path is `litert_torch.convert` on diffusers' network and ai-edge-quantizer on its file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from scripts.bench.document import put_into
from scripts.bench.processes import Figures, Rounds, measure, ratio, table
from scripts.bench.random_folder import random_folder

_PROFILES = {"fp16": "gpu", "dynamic-int8": "cpu"}


def main() -> None:
    """Measure, print the table, and put it into a document."""
    arguments = _arguments()
    if arguments.plain:
        _convert_plainly(Path(arguments.folder), arguments.plain, Path(arguments.out))
        return
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bench-tflite-") as work:
        folder = Path(arguments.folder) if arguments.folder else random_folder(Path(work), "sd15")
        rounds = [_round(folder, Path(work)) for _ in range(arguments.rounds)]
    text = _table(rounds)
    print(text)
    if arguments.write:
        put_into(Path(arguments.write), "tflite-sd15", text)


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
        figures[f"ours: {quantization}"] = measure(ours)
        plain = [sys.executable, __file__, "--folder", str(folder), "--plain", quantization]
        figures[f"plain: {quantization}"] = measure([*plain, "--out", f"{work}/plain.tflite"])
    return figures


def _convert_plainly(folder: Path, quantization: str, out: Path) -> None:
    import litert_torch
    import torch
    from ai_edge_quantizer import quantizer

    from coreml_sd.config import ConversionConfig
    from coreml_sd.models.open_model import open_model
    from coreml_sd.targets.tflite.packed_file import write_packed
    from coreml_sd.targets.tflite.quantize import recipe
    from coreml_sd.upstream.ai_edge_quantizer_faults import worked_around

    component = open_model(ConversionConfig(model=str(folder), targets=["tflite"])).component(
        "unet"
    )
    network = component.published(component.load()).eval()
    examples = tuple(torch.zeros(spec.shape) for spec in component.inputs)
    litert_torch.convert(network, examples, lightweight_conversion=True).export(f"{out}.fp32")
    # Linear layers of the published network are FULLY_CONNECTED in the file.
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    with worked_around(write_packed):
        worker = quantizer.Quantizer(f"{out}.fp32")
        worker.load_quantization_recipe(recipe(quantization, kinds))  # type: ignore[arg-type]
        out.write_bytes(worker.quantize().quantized_model)


def _table(rounds: Rounds) -> str:
    lines = table("sd15, UNet", rounds, ("torch", "litert-torch", "ai-edge-quantizer"))
    lines += [ratio(each, rounds, f"ours: {each}", [f"plain: {each}"]) for each in _PROFILES]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
