"""Watches the processes that try inputs: crashes, hangs, memory, files where none should be."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from scripts.fuzzing.kinds import Material

HANG_SECONDS = 30.0
MOST_MEMORY = 4 << 30
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Findings:
    """How many inputs of each kind were tried, and what was found, with an example each."""

    tried: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, number: int, fault: str) -> None:
        """Count a fault, and keep the first input that showed it."""
        self.faults[f"{kind}: {fault}"] += 1
        self.examples.setdefault(f"{kind}: {fault}", f"--only {kind} --first {number} --inputs 1")


class Hunt:
    """Tries inputs of one kind until a number or a time is reached."""

    def __init__(self, kind: str, seed: int, material: Material, work: Path) -> None:
        self.kind, self.seed, self.material = kind, seed, material
        self.folder = work / kind
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("home", "tmp", "own"):
            (self.folder / name).mkdir(parents=True)

    def run(self, first: int, count: int, seconds: float, findings: Findings) -> None:
        """Try `count` inputs from number `first` on, for `seconds` at most."""
        until, number = time.monotonic() + seconds, first
        while number < first + count and time.monotonic() < until:
            number = self._one_process(number, first + count, until, findings)
        for strange in self._strange_files():
            findings.add(self.kind, first, f"left {strange}")

    def _one_process(self, first: int, last: int, until: float, findings: Findings) -> int:
        """The number to go on with."""
        process = self._start(first)
        assert process.stdin and process.stdout
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        number, begun = first - 1, time.monotonic()  # starting takes its time too
        while True:
            limit = HANG_SECONDS if number >= first else 8 * HANG_SECONDS
            line = _next(lines, begun + limit)
            if line is None or line == "":
                fault = self._ended(process, hung=line is None)
                process.kill()
                process.wait()
                findings.add(self.kind, max(number, first), fault)
                return max(number, first) + 1
            kind, value = json.loads(line)
            if kind == "fault":
                findings.add(self.kind, number, value)
                continue
            if number >= first:
                findings.tried[self.kind] += 1
            if _memory(process) > MOST_MEMORY:
                findings.add(self.kind, number, "more than 4 GB")
                process.kill()
            number, begun = int(value), time.monotonic()
            if number >= last or time.monotonic() > until:
                _finish(process)
                return number
            process.stdin.write("\n")
            process.stdin.flush()

    def _start(self, first: int) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "1",
        }
        command = [sys.executable, "-m", "scripts.fuzzing.child", self.kind, str(self.seed)]
        command += [str(first), str(self.folder / "own")]
        command += [str(self.material.model), str(self.material.bundle)]
        with (self.folder / "stderr").open("w") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, text=True, stderr=log,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip

    def _ended(self, process: subprocess.Popen[str], *, hung: bool) -> str:
        if hung:
            return f"no answer in {HANG_SECONDS:.0f} s"
        status = process.wait()
        told = (self.folder / "stderr").read_text("utf-8", "replace").strip().splitlines()
        return f"ended with status {status}: {' '.join(told[-1:])[:160]}"

    def _strange_files(self) -> list[str]:
        """What was left outside the folder of the kind."""
        left = [*(self.folder / "tmp").iterdir()]
        known = {"home", "tmp", "own", "stderr"}
        left += [path for path in self.folder.iterdir() if path.name not in known]
        of_torch = "torchinductor_"  # its cache for each user
        names = [str(path.relative_to(self.folder)) for path in left]
        return [name for name in names if of_torch not in name]


def _finish(process: subprocess.Popen[str]) -> None:
    """Let it end by itself, with what it is at: killed, it would leave its temporary files."""
    assert process.stdin
    process.stdin.close()
    try:
        process.wait(HANG_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read(stream: Any, lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _next(lines: queue.Queue[str], until: float) -> str | None:
    try:
        return lines.get(timeout=max(0.0, until - time.monotonic()))
    except queue.Empty:
        return None


def _memory(process: subprocess.Popen[str]) -> int:
    try:
        return int(psutil.Process(process.pid).memory_info().rss)
    except psutil.Error:
        return 0
