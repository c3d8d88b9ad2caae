#!/usr/bin/env python
"""Hold the predictions of `convert --dry-run` against real conversions, or measure its rates anew.

Each case is a conversion in a process of its own. Its time, the peak of the memory of all its
processes and the bytes of its bundle are compared with what was predicted just before. With
`--write` the rates of `coreml_sd/conversion/prediction/rates.json` are fitted to what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import psutil

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.conversion.prediction import predict
from coreml_sd.conversion.prediction.probe import probe
from coreml_sd.conversion.prediction.rates import RATES_FILE
from scripts.bench.fit_rates import fit_rates
from scripts.bench.random_folder import random_folder

_ALLOWED = 0.30  # of time and memory
_ALLOWED_DISK = 0.05
_INTERVAL = 0.05

# name: model, knobs, verify. Small ones first.
CASES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "demo": ("demo", {"palettize": 6}, False),
    "demo, verified": ("demo", {"palettize": 6}, True),
    "demo fp16, verified": ("demo", {}, True),
    "demo tflite": ("demo", {"targets": ["tflite"]}, False),
    "demo tflite, verified": ("demo", {"targets": ["tflite"]}, True),
    "demo both, verified": ("demo", {"targets": ["coreml", "tflite"], "palettize": 6}, True),
    "sd15": ("sd15", {"palettize": 6, "chunks": "2"}, False),
    "sd15 fp16": ("sd15", {}, False),
    "sd15 small": ("sd15", {"palettize": 6, "components": ["text_encoder", "vae_encoder"]}, True),
    "sd15 small tflite": ("sd15", {"targets": ["tflite"], "components": ["text_encoder"]}, True),
    "sd15 small both": (
        "sd15",
        {"targets": ["coreml", "tflite"], "palettize": 6, "components": ["text_encoder"]},
        True,
    ),
    "sd15, verified": ("sd15", {"palettize": 6, "chunks": "2"}, True),
    "sd15 tflite": ("sd15", {"targets": ["tflite"]}, False),
    "sd15 tflite, verified": ("sd15", {"targets": ["tflite"]}, True),
}


def main() -> int:
    arguments = _arguments()
    if arguments.child:
        return _convert(json.loads(arguments.child))
    measured = []
    if arguments.reuse:
        measured = json.loads(arguments.reuse.read_text("utf-8"))
    chosen = [name for name in CASES if any(_means(each, name) for each in arguments.cases)]
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="predictions-") as folder:
        sd15 = arguments.sd15
        for name in [] if arguments.reuse and not arguments.cases else chosen or list(CASES):
            if sd15 is None and CASES[name][0] == "sd15":
                sd15 = random_folder(Path(folder))
            measured = [each for each in measured if each["case"] != name]
            measured.append(_measure(name, sd15, Path(folder)))
            print(_line(measured[-1]), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(measured), "utf-8")
    if arguments.write:
        RATES_FILE.write_text(json.dumps(fit_rates(measured), indent=1) + "\n", "utf-8")
        print(f"{RATES_FILE}: written")
        for each in measured:
            print(_line(each | {"predicted": _predicted(each, each["probe"])}))
        return 0
    return 1 if any(_worst(each) > 1 for each in measured) else 0


def _means(given: str, name: str) -> bool:
    return name == given if given in CASES else name.startswith(given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = "; ".join(CASES)
    parser.add_argument("--cases", nargs="*", default=[], help=f"or beginnings; else all: {names}")
    parser.add_argument("--sd15", type=Path, help="a diffusers folder; else random weights")
    parser.add_argument("--work", type=Path, help="where bundles go for the while")
    parser.add_argument("--json", type=Path, help="keep what was measured")
    parser.add_argument("--reuse", type=Path, help="what --json kept; --cases are measured anew")
    parser.add_argument("--write", action="store_true", help="fit the rates to what was measured")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(name: str, sd15: Path | None, folder: Path) -> dict[str, Any]:
    model, knobs, verify = CASES[name]
    case: dict[str, Any] = {"case": name, "verify": verify, "cores": os.cpu_count()}
    case["config"] = {"model": str(sd15) if model == "sd15" else model, **knobs}
    before = probe()
    case["predicted"] = _predicted(case, before)
    out = folder / "bundle"
    command = [sys.executable, __file__, "--child", json.dumps({**case, "out": str(out)})]
    case["started"], samples, output = time.time(), [], []
    process = psutil.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_environment()
    )
    reader = threading.Thread(target=lambda: output.append(process.stdout.read()))
    reader.start()
    while process.poll() is None:
        samples.append([time.time(), *_resident(process)])
        time.sleep(_INTERVAL)
    case["seconds"] = time.time() - case["started"]
    reader.join()
    if process.returncode:
        raise SystemExit(f"{name}: status {process.returncode}")
    case |= json.loads(output[0].splitlines()[-1])
    after = probe()
    case["probe"] = {key: (before[key] + after[key]) / 2 for key in before}
    case["memory"] = max(sum(sample[1:]) for sample in samples)
    case["samples"] = samples
    case["files"] = {
        file.relative_to(out).as_posix(): file.stat().st_size
        for file in out.rglob("*")
        if file.is_file()
    }
    case["disk"] = sum(case["files"].values())
    shutil.rmtree(out)
    return case


def _predicted(case: dict[str, Any], measured: dict[str, float]) -> dict[str, float]:
    prediction = predict(
        plan_conversion(ConversionConfig(**case["config"])), case["verify"], measured=measured
    )
    return {
        "seconds": prediction.seconds,
        "memory": prediction.memory,
        "disk": prediction.disk,
    }


def _resident(process: psutil.Process) -> list[int]:
    """Bytes of the main process with its helpers, and of each worker."""
    main, workers = 0, []
    try:
        for each in [process, *process.children(recursive=True)]:
            held = each.memory_info().rss
            if "coreml_sd.conversion.process_main" in each.cmdline():
                workers.append(held)
            else:
                main += held
    except psutil.Error:
        pass  # one that has just ended
    return [main, *workers]


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parent.parent)
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return {**kept, "PYTHONPATH": root, "OMP_WAIT_POLICY": "passive"}


class _Recorder:
    """Notes when stages begin and end."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str, str]] = []

    @contextmanager
    def stage(self, title: str) -> Iterator[Any]:
        self.events.append((time.time(), "begin", title))
        yield lambda done, of: None
        self.events.append((time.time(), "end", title))

    def warn(self, message: str) -> None:
        pass

    note = warn


def _convert(case: dict[str, Any]) -> int:
    """In a process of its own: convert, and print what happened when."""
    from coreml_sd.conversion.convert import convert
    from coreml_sd.upstream.hidden_imports import allow_lean_imports
    from coreml_sd.upstream.noise import quieten

    quieten()
    if case["config"].get("targets", ["coreml"]) == ["coreml"]:
        allow_lean_imports()  # as the command does
    told, recorder = os.fdopen(os.dup(1), "w"), _Recorder()
    os.dup2(2, 1)  # libraries print what they like
    config = ConversionConfig(**case["config"])
    convert(config, Path(case["out"]), verify=case["verify"], progress=recorder)
    print(json.dumps({"events": recorder.events}), file=told, flush=True)
    return 0


def _line(case: dict[str, Any]) -> str:
    units = {"seconds": (1, "s"), "memory": (1e9, "GB"), "disk": (1e6, "MB")}
    parts = []
    for name, (unit, sign) in units.items():
        predicted, real = case["predicted"][name], case[name]
        parts.append(
            f"{predicted / unit:8.2f} of {real / unit:8.2f} {sign} ({predicted / real - 1:+4.0%})"
        )
    verdict = "ok" if _worst(case) <= 1 else "OFF"
    return f"{case['case']:24} {'  '.join(parts)}  {verdict}"


def _worst(case: dict[str, Any]) -> float:
    """The largest deviation, as a part of what is allowed."""
    allowed = {"seconds": _ALLOWED, "memory": _ALLOWED, "disk": _ALLOWED_DISK}
    return max(abs(case["predicted"][k] / case[k] - 1) / part for k, part in allowed.items())


if __name__ == "__main__":
    sys.exit(main())
