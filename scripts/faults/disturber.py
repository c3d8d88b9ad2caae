"""Conversions killed, stopped, and on disks that are full."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from coreml_sd.bundle import open_bundle
from coreml_sd.errors import UserError
from scripts.faults.disk import Disk
from scripts.faults.findings import Findings
from scripts.faults.run import Run

_LATEST_STOP = 0.7  # of the time that a conversion takes: later ones would mostly have ended
_SLOWEST_STOP = 2.0  # seconds that ending may take on a machine that has nothing else to do
_STARTS = 40  # of an interpreter, which take as long on that machine
_PATIENCE = 120.0  # seconds until it is given up


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder by their path."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def _slowest_stop_now() -> float:
    """`_SLOWEST_STOP` on the machine as busy as it is now."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", ""], check=True)
    return _STARTS * (time.perf_counter() - started)


class Disturber:
    """Conversions by one command, held against what the command makes when it is left alone."""

    def __init__(self, command: list[str], work: Path, seed: int) -> None:
        self.command, self.random, self.findings = command, random.Random(seed), Findings()
        self.work, self._shown = work / "disturbed", 0
        shutil.rmtree(work, ignore_errors=True)
        self.work.mkdir(parents=True)
        started = time.perf_counter()
        (work / "whole").mkdir()
        run = Run(command, work / "whole" / "b")
        if run.wait() != 0:
            raise SystemExit(f"the undisturbed conversion failed:\n{run.told()}")
        self.seconds = time.perf_counter() - started
        self.whole = contents(run.out)

    def kills(self, count: int, jobs: tuple[int, ...] = ()) -> None:
        """kill -9 `count` times: a killed conversion is run again until it comes to its end."""
        done = 0
        while done < count:
            run = Run([*self.command, *self._jobs(jobs)], self.work / "b")
            if run.wait(self.random.uniform(0, self.seconds)) is not None:
                self._finished(run, f"after {done} kills")
                continue
            done += 1
            run.process.kill()
            run.wait()
            self._stopped(run, f"kills {done}")
            self._progress("kills", done, count)
        self._finish("after the last kill")

    def stops(self, count: int, jobs: tuple[int, ...] = (), *, early: bool = False) -> None:
        """Ctrl-C (to all processes of the group, as a terminal does) and SIGTERM, in turn.

        Args:
            early: from the moment that the process catches signals; else when it writes files.
        """
        done = 0
        while done < count:
            run = Run([*self.command, *self._jobs(jobs)], self.work / "b")
            if early:
                run.listens()
            else:
                run.writes()
            run.wait(self.random.uniform(0, _LATEST_STOP * self.seconds))
            if not run.held_before_its_end():
                run.wait()
                self._finished(run, f"after {done} stops")
                continue
            done += 1
            self._stop(run, signal.SIGINT if done % 2 else signal.SIGTERM, f"stop {done}")
            self._progress("stops", done, count)
        self._finish("after the last stop")

    def _stop(self, run: Run, number: signal.Signals, name: str) -> None:
        """Signal to a held run: it ends soon, with its status and one line; nothing is left."""
        started = time.perf_counter()
        if number == signal.SIGINT:
            os.killpg(run.process.pid, number)
        else:
            run.process.send_signal(number)
        run.process.send_signal(signal.SIGCONT)
        status = run.wait(_PATIENCE)
        took = time.perf_counter() - started
        self.findings.slowest_stop = max(self.findings.slowest_stop, took)
        self.findings.expect(status == 128 + number, f"{name}: status {status}")
        self.findings.expect(
            took < _SLOWEST_STOP or took < _slowest_stop_now(), f"{name}: took {took:.1f} s"
        )
        lines = [line for line in run.told().splitlines() if line.startswith("stopped")]
        self.findings.expect(len(lines) == 1, f"{name}: told {run.told()[-300:]!r}")
        self._stopped(run, name)
        half = list(self.work.glob(".b.partial-*"))
        self.findings.expect(not half, f"{name}: left {half}")

    def full_disks(self, count: int, mount: Path) -> None:
        """A small disk that fills up while the conversion writes; then room is made."""
        size = sum(map(len, self.whole.values()))
        for number in range(1, count + 1):
            room = int(size * self.random.uniform(0.02, 0.95))
            disk = Disk(mount, 40 * size)
            with disk:
                run = Run(self.command, mount / "b")
                run.writes()
                disk.fill(room)
                status, name = run.wait(), f"full disk {number} ({room} bytes of {size})"
                told = run.told()
                self.findings.expect(status == 2, f"{name}: status {status}, {told[-300:]!r}")
                errors = [line for line in told.splitlines() if line.startswith("Error:")]
                self.findings.expect(
                    len(errors) == 1 and "free some space" in errors[0], f"{name}: told {errors}"
                )
                self._stopped(run, name)
                disk.empty()
                again = Run(self.command, mount / "b")
                again.wait()
                self._finished(again, f"after {name}")
            self._progress("full disks", number, count)

    def _jobs(self, jobs: tuple[int, ...]) -> list[str]:
        return ["--jobs", str(self.random.choice(jobs))] if jobs else []

    def _stopped(self, run: Run, name: str) -> None:
        """Nothing runs on, nothing broken opens, nothing was told that looks like a fault."""
        self.findings.counts[name.split()[0]] += 1
        left = run.survivors()
        self.findings.expect(not left, f"{name}: processes {left} are still there")
        for process in left:
            os.kill(process, signal.SIGKILL)
        before = self._sizes(run.out.parent)
        time.sleep(0.05)
        self.findings.expect(before == self._sizes(run.out.parent), f"{name}: writing goes on")
        if list(run.out.parent.glob(".b.resume/*-*")):
            self.findings.counts["with finished components"] += 1
        self.findings.expect("Traceback" not in run.told(), f"{name}: {run.told()[-500:]!r}")
        try:
            open_bundle(run.out)
        except UserError:
            return
        except Exception as error:  # the very thing that is looked for
            self.findings.expect(False, f"{name}: opening gave {error!r}")
            return
        self.findings.expect(contents(run.out) == self.whole, f"{name}: a broken bundle opens")
        shutil.rmtree(run.out, ignore_errors=True)  # it was killed right after its end

    def _finished(self, run: Run, name: str) -> None:
        told = run.told()
        went_on = "finished by the run that was interrupted" in " ".join(told.split())
        if not went_on and run.out.parent == self.work:
            self.seconds = time.perf_counter() - run.started  # the machine has other work, too
        self.findings.counts["finished"] += 1
        self.findings.counts["went on"] += went_on
        status = run.process.returncode
        self.findings.expect(status == 0, f"{name}: status {status}, {told[-500:]!r}")
        same = run.out.is_dir() and contents(run.out) == self.whole
        self.findings.expect(same, f"{name}: other bytes than undisturbed")
        around = {path.name for path in run.out.parent.iterdir()} - {"b", "stderr.txt", "ballast"}
        self.findings.expect(not around, f"{name}: left {sorted(around)}")
        shutil.rmtree(run.out, ignore_errors=True)

    def _finish(self, name: str) -> None:
        run = Run(self.command, self.work / "b")
        run.wait()
        self._finished(run, name)

    def _sizes(self, folder: Path) -> dict[str, int]:
        return {str(file): file.stat().st_size for file in folder.rglob("*") if file.is_file()}

    def _progress(self, what: str, done: int, count: int) -> None:
        for line in self.findings.broken[self._shown :]:
            print(f"\n{line}")
        self._shown = len(self.findings.broken)
        print(f"\r{what} {done}/{count}, broken {self._shown}", end="", flush=True)
