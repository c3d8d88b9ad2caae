#!/usr/bin/env python3
"""One step of the evaluator from a saved bundle beside plain torch fp32: seconds and memory.

Each runs in a process of its own; the steps are done in turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from scripts.bench.document import put_into
from scripts.bench.processes import heading
from scripts.bench.random_folder import random_folder
from scripts.bench.resident import resident

_RUNTIMES = ("torch fp32", "evaluator fp32", "evaluator fp16")


@dataclass(frozen=True)
class Asked:
    """What a process runs: a component of a model, or of the bundle made of it."""

    runtime: str
    config: dict[str, Any]
    bundle: Path
    component: str
    threads: int


@dataclass(frozen=True)
class Row:
    """Seconds of loading, of the first step and of the later ones, theirs by torch's, and GB."""

    asked: Asked
    load: float
    first: float
    later: tuple[float, ...]
    cpu: tuple[float, ...]
    speeds: tuple[float, ...]
    cpu_speeds: tuple[float, ...]
    peak: float


def main() -> None:
    """Measure, print the table, and put it into a document."""
    arguments = _arguments()
    from coreml_sd.bundle import open_bundle
    from coreml_sd.config import ConversionConfig
    from coreml_sd.conversion.convert import convert

    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="bench-evaluator-") as work:
        large = arguments.family == "sd15"
        model = "demo"
        if large:
            model = arguments.folder or str(random_folder(Path(work)))
        only: dict[str, Any] = {"components": ["unet"]} if large else {}
        config = ConversionConfig(model=model, palettize=6, chunks="2" if large else "1", **only)
        made = Path(arguments.bundle or Path(work) / "bundle")
        if not made.exists():
            convert(config, made, verify=False)
        components = open_bundle(made, check=False).manifest["components"]
        rows = []
        for threads in arguments.threads:
            for component in components:
                asked = [
                    Asked(runtime, config.to_dict(), made, component, threads)
                    for runtime in _RUNTIMES
                ]
                rows += _measure(asked, arguments.rounds)
    text = _table(arguments.family, arguments.rounds, rows)
    print(text)
    if arguments.write:
        put_into(Path(arguments.write), f"evaluator-{arguments.family}", text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="demo", choices=["demo", "sd15"])
    parser.add_argument("--folder", help="A diffusers folder of the family; else random weights.")
    parser.add_argument("--bundle", help="The bundle made of it; made here where it is missing.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[os.cpu_count() or 1])
    parser.add_argument("--work", help="Where folders and results go for the while.")
    parser.add_argument("--write", help="A document with markers for the table.")
    return parser.parse_args()


def _measure(asked: list[Asked], rounds: int) -> list[Row]:
    """All contestants in turn; the first is what the others are held against."""
    children = [_start(each) for each in asked]
    opened = [pipe.recv() for pipe in children]  # loaded one after another: see `_start`
    taken: list[list[tuple[float, float]]] = [[] for _ in asked]
    for _ in range(rounds):
        for pipe, own in zip(children, taken, strict=True):
            pipe.send("step")
            own.append(pipe.recv())
    rows = []
    for each, pipe, (load, first), own in zip(asked, children, opened, taken, strict=True):
        pipe.send("memory")
        wall, cpu = zip(*own, strict=True)
        base = taken[0]
        rows.append(
            Row(
                each,
                load,
                first,
                wall,
                cpu,
                tuple(mine / theirs for mine, (theirs, _) in zip(wall, base, strict=True)),
                tuple(mine / theirs for mine, (_, theirs) in zip(cpu, base, strict=True)),
                pipe.recv(),
            )
        )
        pipe.close()
    return rows


def _start(asked: Asked) -> Connection:
    """A process that waits for steps; returns when it has done the first one."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=_serve, args=(asked, theirs), daemon=True).start()
    theirs.close()
    ours.poll(None)  # loading beside another one's loading or step would disturb both
    return ours


def _serve(asked: Asked, pipe: Connection) -> None:
    started = time.perf_counter()
    run = _open(asked)
    load = time.perf_counter() - started
    pipe.send((load, _timed(run)[0]))
    while True:
        try:
            question = pipe.recv()
        except EOFError:  # whoever asked has gone
            return
        pipe.send(_timed(run) if question == "step" else resident("VmHWM"))


def _open(asked: Asked) -> Any:
    import torch

    torch.set_num_threads(asked.threads)
    from coreml_sd.bundle import open_bundle
    from coreml_sd.config import from_dict
    from coreml_sd.models.open_model import open_model

    component = open_model(from_dict(asked.config)).component(asked.component)
    given = component.sample_inputs(0)
    if asked.runtime.startswith("torch"):
        from coreml_sd.runtimes.torch_source import SourceNetwork

        network: Any = SourceNetwork(component)
    else:
        from coreml_sd.runtimes.chain import Chain
        from coreml_sd.runtimes.mil import MilNetwork

        mode: Any = asked.runtime.split()[1]
        files = open_bundle(asked.bundle, check=False).files(asked.component, "coreml")
        network = Chain(asked.component, [MilNetwork(path, mode=mode) for path in files])
    return lambda: network.run(given)


def _timed(run: Any) -> tuple[float, float]:
    """Seconds of the clock and of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def _table(label: str, rounds: int, rows: list[Row]) -> str:
    lines = [
        heading(label, rounds, ("torch", "diffusers", "numba")),
        "",
        "| | threads | load s | first step s | later steps s (min to max) | by torch's | CPU s | "
        "by torch's | peak GB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        middle = statistics.median
        lines.append(
            f"| {row.asked.component}, {row.asked.runtime} | {row.asked.threads} | "
            f"{row.load:.1f} | {row.first:.3g} | {middle(row.later):.3g} ({min(row.later):.3g} to "
            f"{max(row.later):.3g}) | {middle(row.speeds):.2f} | {middle(row.cpu):.3g} | "
            f"{middle(row.cpu_speeds):.2f} | {row.peak:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
