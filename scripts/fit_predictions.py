#!/usr/bin/env python
"""Hold what is predicted of conversions against real ones; `--write` fits the rates to those."""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import multiprocessing
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.conversion.prediction import (
    FOLLOWS,
    QUANTITIES,
    RATES_FILE,
    TimeLeft,
    Work,
    predict,
    rates,
)
from coreml_sd.processes.probe import probe
from coreml_sd.progress import Silent
from scripts.bench.processes import resident
from scripts.bench.random_folder import random_folder

_SIX, _TFLITE, _CHUNKS = {"palettize": 6}, {"targets": ["tflite"]}, {"palettize": 6, "chunks": "2"}
_BOTH, _TEXT = {**_SIX, "targets": ["coreml", "tflite"]}, {"components": ["text_encoder"]}
_PARTS = {
    name: {**_CHUNKS, "components": [name]} for name in ("unet", "vae_decoder", "vae_encoder")
}
CASES: dict[str, tuple[dict[str, Any], bool]] = {  # knobs; whether files are executed
    "demo": (_SIX, False), "demo verified": (_SIX, True), "demo fp16 verified": ({}, True),
    "demo tflite": (_TFLITE, False), "demo tflite verified": (_TFLITE, True),
    "demo both verified": (_BOTH, True), "sd15 text verified": ({**_SIX, **_TEXT}, True),
    **{f"sd15 {name} verified": (knobs, True) for name, knobs in _PARTS.items()},
    "sd15 unet 256 verified": ({**_PARTS["unet"], "size": "256x256"}, True),
    "sd15 text tflite verified": ({**_TFLITE, **_TEXT}, True), "sd15 tflite": (_TFLITE, False),
    "sd15 text both verified": ({**_BOTH, **_TEXT}, True), "sd15 tflite verified": (_TFLITE, True),
    "sd15": (_CHUNKS, False), "sd15 fp16": ({}, False), "sd15 verified": (_CHUNKS, True),
}  # fmt: skip
Row = tuple[Work, float, float]  # seconds where the probe takes one, bytes


def main() -> None:
    """Measure the cases that are named, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"else all: {', '.join(CASES)}")
    parser.add_argument("--sd15", help="a diffusers folder; else random weights")
    parser.add_argument("--write", action="store_true", help="fit the rates to what was measured")
    arguments, rows = parser.parse_args(), list[Row]()
    if arguments.write and arguments.cases:
        parser.error("--write takes every case: small ones say nothing of large ones")
    with tempfile.TemporaryDirectory() as work:
        for name in arguments.cases or CASES:
            if name.startswith("sd15") and not arguments.sd15:
                arguments.sd15 = str(random_folder(Path(work)))
            model, (knobs, verify) = name.split()[0], CASES[name]
            config = ConversionConfig(model=model.replace("sd15", arguments.sd15 or ""), **knobs)
            rows += measure(name, config, verify, Path(work) / name)
    if arguments.write:
        RATES_FILE.write_text(json.dumps(fit(rows), indent=1) + "\n", "utf-8")


def convert(config: ConversionConfig, verify: bool, out: Path, queue: Any) -> None:
    """In a process of its own; the queue gets the stages that begin."""
    from coreml_sd.conversion import convert

    class Told(Silent):
        def stage(self, stage: Any) -> Any:
            queue.put(stage)
            return super().stage(stage)

    convert.convert(config, out, verify=verify, progress=Told(), resume=False)


def measure(name: str, config: ConversionConfig, verify: bool, out: Path) -> list[Row]:
    """Convert, print what was predicted and what it took, and give that for each piece of work;
    nothing where two processes work at once, which are not told apart."""
    probed = probe()
    expected = predict(plan_conversion(config), verify, measured=probed)
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=convert, args=(config, verify, out, queue))
    process.start()
    watched = psutil.Process(process.pid)
    left, last, taken = TimeLeft(expected), time.perf_counter(), dict[Work, list[float]]()
    while process.is_alive():
        time.sleep(0.1)
        while not queue.empty():
            left.begun(queue.get())
        row, now = taken.setdefault(left.shares[0][1][0], [0.0, 0.0]), time.perf_counter()
        row[0], row[1], last = row[0] + now - last, max(row[1], resident(watched)), now
    if process.exitcode:
        raise SystemExit(f"{name}: status {process.exitcode}")
    seconds, memory = zip(*taken.values(), strict=True)
    disk = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    real = dict(zip(QUANTITIES, (sum(seconds), max(memory), disk), strict=True))
    told = (f"{getattr(expected, key):.4g} of {real[key]:.4g} {key}" for key in QUANTITIES)
    print(f"{name}: {', '.join(told)}", flush=True)
    speed = ((probed + probe()) / 2) ** FOLLOWS
    rows = [(work, row[0] / speed, row[1]) for work, row in taken.items()]
    return rows if len(expected.shares) == 1 else []


def fit(rows: list[Row]) -> dict[str, Any]:
    """Rates (see `prediction.rates`) with the least relative error; as they are where nothing was
    measured."""
    found = copy.deepcopy(rates())
    alike = defaultdict(list)
    for work, *taken in rows:
        for quantity, count in zip(("seconds", "memory"), taken, strict=True):
            alike[quantity, work.kind, work.role].append([*work.sizes, count])
    for (quantity, kind, role), lines in alike.items():
        *sizes, counts = np.array(lines).T
        table, ones = np.array(sizes).T / counts[:, None], np.ones(len(counts))
        answers = []
        for used in itertools.product((0, 1), repeat=len(sizes)):
            solved, *_ = np.linalg.lstsq(table * used, ones)
            if (solved >= 0).all():  # of equal ones the first rates alone
                error = round(float(np.linalg.norm(table @ solved - ones)), 5)
                answers.append((error, used[::-1], solved.tolist()))
        best = [float(f"{rate:.4g}") for rate in min(answers)[2]]
        found[quantity].setdefault(kind, {})[role] = best
    return found


if __name__ == "__main__":
    main()
