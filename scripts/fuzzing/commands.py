"""Whole commands on changed bundles and models: status, one line, no half-written output."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from scripts.fuzzing.hunt import HANG_SECONDS, ROOT, Findings
from scripts.fuzzing.kinds import Manifests, Material, ModelFolders

_NAME = "commands"


def run_commands(
    material: Material, work: Path, seed: int, count: int, seconds: float, findings: Findings
) -> None:
    """Try `count` commands, for `seconds` at most."""
    until = time.monotonic() + seconds
    folder = work / _NAME
    (folder / "bundles").mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    bundles = Manifests(material, folder / "bundles")
    models = ModelFolders(material, folder / "models")
    for number in range(count):
        if time.monotonic() > until:
            return
        rng = random.Random(f"{seed}-{_NAME}-{number}")
        kind = rng.choice((bundles, models))
        kind.restore()
        kind.change(rng)
        out = folder / "out"
        if kind is models:
            convert = ["convert", str(kind.copy), "--no-verify", "--components", "text_encoder"]
            arguments = rng.choice((["inspect", str(kind.copy)], [*convert, "-o", str(out)]))
        else:
            draw = ["generate", "a cat", "--steps", "1", "-o", str(out), "--bundle"]
            arguments = rng.choice((["inspect"], ["lint"], ["parity", "--no-pictures"], draw))
            arguments = [*arguments, str(kind.copy)]
        findings.tried[_NAME] += 1
        for fault in _faults(arguments, out):
            findings.add(_NAME, number, f"{arguments[0]}: {fault}")
        kind.restore()
        _remove(out)


def _remove(out: Path) -> None:
    """A bundle's folder, or a picture."""
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)


def _faults(arguments: list[str], out: Path) -> list[str]:
    command = [sys.executable, "-m", "coreml_sd.cli.main", *arguments]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=4 * HANG_SECONDS
        )
    except subprocess.TimeoutExpired:
        return ["no answer"]
    found = []
    if done.returncode not in (0, 1, 2):
        found.append(f"status {done.returncode}")
    for word in ("Traceback", "please report it"):
        if word in done.stderr:
            line = next(line for line in done.stderr.splitlines() if word in line)
            found.append(line[:200])
    if done.returncode and out.exists():
        found.append("left its output")
    return found
