#!/usr/bin/env python
"""Whole conversions, ours and the plain path, each step a process of its own, in turn."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import psutil

from scripts.bench.families import FAMILIES

_BITS = 6
_CHUNKS = {"sdxl": "auto"}  # 2 elsewhere
Figures = tuple[float, float, float]  # seconds, CPU seconds, peak resident GB of the whole tree


def main() -> None:
    """Measure, print the table, and put it into a document."""
    arguments = _arguments()
    if arguments.plain:
        _convert_plainly(Path(arguments.folder), arguments.plain, Path(arguments.out))
        return
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bench-convert-") as work:
        folder = Path(arguments.folder or _random_folder(Path(work), arguments.family))
        names = arguments.components or _components(folder)
        chunks = _CHUNKS.get(arguments.family, "2")
        rounds = [_round(folder, Path(work), chunks, names) for _ in range(arguments.rounds)]
    text = _table(arguments.folder or arguments.family, rounds)
    print(text)
    if arguments.write:
        _replace(Path(arguments.write), f"convert-{arguments.family}", text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="sd15", choices=FAMILIES)
    parser.add_argument("--folder", help="A diffusers folder instead of random weights.")
    parser.add_argument("--components", nargs="+", help="These alone. [default: all]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", help="Where folders and results go for the while.")
    parser.add_argument("--write", help="A document with markers for the table.")
    parser.add_argument("--plain", help=argparse.SUPPRESS)  # the component to convert plainly
    parser.add_argument("--out", help=argparse.SUPPRESS)
    return parser.parse_args()


def _round(folder: Path, work: Path, chunks: str, names: list[str]) -> dict[str, Figures]:
    """All steps of both paths once."""
    ours = [sys.executable, "-m", "coreml_sd.cli.main", "convert", str(folder), "--no-verify"]
    ours += ["--palettize", str(_BITS), "--overwrite"]
    command = [*ours, "--components", ",".join(names), "--chunks", chunks, "-o", f"{work}/all"]
    figures = {"ours: all": _measure(command)}
    if "unet" in names:
        command = [*ours, "--components", "unet", "--chunks", "1", "-o", f"{work}/unet"]
        figures["ours: UNet"] = _measure(command)
    for name in names:
        out = work / f"{name}.mlpackage"
        command = [sys.executable, __file__, "--folder", str(folder), "--plain", name]
        figures[f"plain: {name}"] = _measure([*command, "--out", str(out)])
        shutil.rmtree(out)
    return figures


def _measure(command: list[str]) -> Figures:
    """Run a command and watch the memory of all its processes."""
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "OMP_WAIT_POLICY": "passive"}
    before, started, peak = os.times(), time.perf_counter(), 0
    process = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            tree = [process, *process.children(recursive=True)]
            peak = max(peak, sum(each.memory_info().rss for each in tree))
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: status {process.returncode}")
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return time.perf_counter() - started, cpu, peak / 1e9


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


def _random_folder(work: Path, family: str) -> Path:
    from coreml_sd.models.source import DEMO_FOLDER
    from scripts.bench.random_folder import write_folder

    return write_folder(work / "model", DEMO_FOLDER / "tokenizer", family)


def _table(label: str, rounds: list[dict[str, Figures]]) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "coremltools"))
    lines = [
        f"**{label}**, {len(rounds)} rounds ({os.cpu_count()} cores; {versions}; "
        f"{time.strftime('%Y-%m-%d')}; load {os.getloadavg()[0]:.1f} at the end):",
        "",
        "| step | seconds (min to max) | CPU seconds | peak GB |",
        "|---|---|---|---|",
    ]
    for name in rounds[0]:
        seconds, cpu, peak = zip(*(each[name] for each in rounds), strict=True)
        lines.append(
            f"| {name} | {statistics.median(seconds):.1f} ({min(seconds):.1f} to "
            f"{max(seconds):.1f}) | {statistics.median(cpu):.0f} | {max(peak):.2f} |"
        )
    plain = [name for name in rounds[0] if name.startswith("plain: ")]
    lines += ["", _ratio("all components", rounds, "ours: all", plain)]
    if "ours: UNet" in rounds[0]:
        lines += [_ratio("the UNet alone", rounds, "ours: UNet", ["plain: unet"])]
    return "\n".join(lines) + "\n"


def _ratio(label: str, rounds: list[dict[str, Figures]], ours: str, plain: list[str]) -> str:
    ratios = [sum(each[name][0] for name in plain) / each[ours][0] for each in rounds]
    return (
        f"- {label}: the plain steps together take {statistics.median(ratios):.1f} times as long "
        f"({min(ratios):.1f} to {max(ratios):.1f})"
    )


def _replace(document: Path, marker: str, text: str) -> None:
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    old = document.read_text("utf-8")
    if begin not in old or end not in old:
        raise SystemExit(f"{document}: no markers {begin} ... {end}")
    head, rest = old.split(begin, 1)
    tail = rest.split(end, 1)[1]
    document.write_text(f"{head}{begin}\n{text}{end}{tail}", "utf-8")


if __name__ == "__main__":
    main()
