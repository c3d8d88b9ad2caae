"""One conversion as a command in a terminal, watched from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import psutil

_ROOT = Path(__file__).resolve().parents[2]
_MARK = "COREML_SD_FAULT_RUN"  # in the environment of every process of one run


def _heed_ctrl_c() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Run:
    """One conversion into `out` as a process group of its own, like a command in a terminal."""

    def __init__(self, command: list[str], out: Path) -> None:
        self.mark, self.out, self.started = uuid.uuid4().hex, out, time.perf_counter()
        self.errors = out.with_name("stderr.txt")
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*command, "-o", str(out)],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, _MARK: self.mark},
                start_new_session=True,
                cwd=_ROOT,
                preexec_fn=_heed_ctrl_c,
            )

    def wait(self, seconds: float | None = None) -> int | None:
        """Its status, or None where it still runs after that time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def listens(self) -> None:
        """Wait until it catches SIGTERM: an interpreter that only just starts dies of signals in
        its own way. Where the system does not tell, two seconds."""
        status = Path(f"/proc/{self.process.pid}/status")
        if not status.exists():
            self.wait(2.0)
        while self.wait(0.005) is None and status.exists():
            caught = next(x for x in status.read_text().splitlines() if x.startswith("SigCgt:"))
            if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
                return

    def writes(self) -> None:
        """Wait until it has made the folder that it writes to, or has ended."""
        while self.wait(0.005) is None and not list(self.out.parent.glob(".b.partial-*")):
            pass

    def held_before_its_end(self) -> bool:
        """Hold it (SIGSTOP) and look whether its bundle is still to come; where the bundle is
        there, or the process has ended, it is not held any longer."""
        if self.process.poll() is not None:
            return False
        self.process.send_signal(signal.SIGSTOP)
        process = psutil.Process(self.process.pid)
        while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            time.sleep(0.001)
        if process.status() == psutil.STATUS_STOPPED and not self.out.exists():
            return True
        self.process.send_signal(signal.SIGCONT)
        return False

    def told(self) -> str:
        """What it wrote on stderr."""
        return self.errors.read_text("utf-8", "replace")

    def survivors(self, patience: float = 2.0) -> list[int]:
        """Processes of this run that are still there after a moment."""
        end = time.monotonic() + patience
        while (left := self._processes()) and time.monotonic() < end:
            time.sleep(0.02)
        return left

    def _processes(self) -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == self.mark and process.status() != "zombie":
                    found.append(process.pid)
            except psutil.Error:
                continue  # another user's, or just gone
        return found
