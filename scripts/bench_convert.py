#!/usr/bin/env python
"""Whole conversions, ours and the plain path, each step a process of its own, in turn."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from scripts.bench.document import put_into
from scripts.bench.families import FAMILIES
from scripts.bench.processes import Figures, Rounds, measure, ratio, table
from scripts.bench.random_folder import random_folder

_BITS = 6
_CHUNKS = {"sdxl": "auto"}  # 2 elsewhere
_AT_ONCE = 1 << 24  # bytes


def main() -> None:
    """Measure, print the table, and put it into a document."""
    arguments = _arguments()
    if arguments.plain:
        _convert_plainly(Path(arguments.folder), arguments.plain, Path(arguments.out))
        return
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bench-convert-") as work:
        folder = Path(arguments.folder or random_folder(Path(work), arguments.family))
        names = arguments.components or _components(folder)
        chunks = _CHUNKS.get(arguments.family, "2")
        plain = [] if arguments.ours else names
        rounds = [_round(folder, Path(work), chunks, names, plain) for _ in range(arguments.rounds)]
    label = Path(arguments.folder).name if arguments.folder else arguments.family
    text = _table(label, rounds)
    print(text)
    if arguments.write:
        put_into(Path(arguments.write), f"convert-{arguments.family}", text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="sd15", choices=FAMILIES)
    parser.add_argument("--folder", help="A diffusers folder instead of random weights.")
    parser.add_argument("--components", nargs="+", help="These alone. [default: all]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", action="store_true", help="Leave the plain path out.")
    parser.add_argument("--work", help="Where folders and results go for the while.")
    parser.add_argument("--write", help="A document with markers for the table.")
    parser.add_argument("--plain", help=argparse.SUPPRESS)  # the component to convert plainly
    parser.add_argument("--out", help=argparse.SUPPRESS)
    return parser.parse_args()


def _round(
    folder: Path, work: Path, chunks: str, names: list[str], plain: list[str]
) -> dict[str, Figures]:
    """All steps of both paths once, each with the model's files in the system's memory: what the
    disk does would hit one step and not the next."""

    def step(command: list[str]) -> Figures:
        for file in folder.rglob("*.safetensors"):
            with file.open("rb", buffering=0) as opened:
                while opened.read(_AT_ONCE):
                    pass
        return measure(command)

    ours = [sys.executable, "-m", "coreml_sd.cli.main", "convert", str(folder), "--no-verify"]
    ours += ["--palettize", str(_BITS), "--overwrite", "--no-resume"]
    command = [*ours, "--components", ",".join(names), "--chunks", chunks, "-o", f"{work}/all"]
    figures = {"ours: all": step(command)}
    if "unet" in names:
        command = [*ours, "--components", "unet", "--chunks", "1", "-o", f"{work}/unet"]
        figures["ours: UNet"] = step(command)
    for name in plain:
        out = work / f"{name}.mlpackage"
        command = [sys.executable, __file__, "--folder", str(folder), "--plain", name]
        figures[f"plain: {name}"] = step([*command, "--out", str(out)])
        shutil.rmtree(out)
    return figures


def _convert_plainly(folder: Path, name: str, out: Path) -> None:
    from coreml_sd.config import ConversionConfig
    from coreml_sd.mobile import mobile_form
    from coreml_sd.models.open_model import open_model
    from scripts.bench.plain_path import convert_plainly

    component = open_model(ConversionConfig(model=str(folder))).component(name)
    network = mobile_form(component.form, component.load())
    bits = _BITS if name == "unet" else None  # ours has palettes everywhere
    convert_plainly(out, network, component.inputs, component.outputs, min_os="iOS17", bits=bits)


def _components(folder: Path) -> list[str]:
    from coreml_sd.config import ConversionConfig
    from coreml_sd.models.open_model import open_model

    return [each.name for each in open_model(ConversionConfig(model=str(folder))).components]


def _table(label: str, rounds: Rounds) -> str:
    plain = [name for name in rounds[0] if name.startswith("plain: ")]
    lines = table(label, rounds, ("torch", "coremltools"))
    if plain:
        lines.append(ratio("all components", rounds, "ours: all", plain))
        if "ours: UNet" in rounds[0]:
            lines.append(ratio("the UNet alone", rounds, "ours: UNet", ["plain: unet"]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
