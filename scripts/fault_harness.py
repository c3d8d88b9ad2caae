#!/usr/bin/env python3
"""Disturb conversions and bundles at seeded random moments and places, and see what they do.

kill -9 while a conversion runs, Ctrl-C and SIGTERM, a disk that fills up, flipped bits in every
file of a bundle. Broken are: a bundle that opens and differs from the undisturbed one, a traceback,
a process or a file that outlives its conversion, a rerun that fails or gives other bytes.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from coreml_sd.bundle import Bundle, open_bundle
from coreml_sd.errors import CoremlSDError, UserError

CONVERT = [sys.executable, "-m", "coreml_sd.cli.main", "convert"]
_MARK = "COREML_SD_FAULT_RUN"  # in the environment of every process of one run


@dataclass
class Findings:
    """What was done, and everything that should not have happened."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    broken: list[str] = field(default_factory=list)
    slowest_stop: float = 0.0

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note what is broken unless it holds."""
        if not holds:
            self.broken.append(otherwise)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder by their path."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


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
                cwd=ROOT,
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
        done, label = 0, "kills"
        while done < count:
            run = Run([*self.command, *self._jobs(jobs)], self.work / "b")
            if run.wait(self.random.uniform(0, self.seconds)) is None:
                run.process.kill()
                run.wait()
                done += 1
                self._stopped(run, f"{label} {done}")
                self._progress(label, done, count)
            else:
                self._finished(run, f"after {done} kills")
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
            if run.wait(self.random.uniform(0, 0.7 * self.seconds)) is None:
                done += 1
                name = f"stop {done}"
                started = time.perf_counter()
                number = signal.SIGINT if done % 2 else signal.SIGTERM
                if number == signal.SIGINT:
                    os.killpg(run.process.pid, number)
                else:
                    run.process.send_signal(number)
                status = run.wait(30)
                took = time.perf_counter() - started
                self.findings.slowest_stop = max(self.findings.slowest_stop, took)
                self.findings.expect(status == 128 + number, f"{name}: status {status}")
                self.findings.expect(took < 2, f"{name}: took {took:.1f} s")
                lines = [line for line in run.told().splitlines() if line.startswith("stopped")]
                self.findings.expect(len(lines) == 1, f"{name}: told {run.told()[-300:]!r}")
                self._stopped(run, name)
                half = list(self.work.glob(".b.partial-*"))
                self.findings.expect(not half, f"{name}: left {half}")
                self._progress("stops", done, count)
            else:
                self._finished(run, f"after {done} stops")
        self._finish("after the last stop")

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
        if list(run.out.parent.glob(".b.parts/*-*")):
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
        self._clear(run.out)  # it was killed right after its end

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
        self._clear(run.out)

    def _finish(self, name: str) -> None:
        run = Run(self.command, self.work / "b")
        run.wait()
        self._finished(run, name)

    def _clear(self, out: Path) -> None:
        shutil.rmtree(out, ignore_errors=True)

    def _sizes(self, folder: Path) -> dict[str, int]:
        return {str(file): file.stat().st_size for file in folder.rglob("*") if file.is_file()}

    def _progress(self, what: str, done: int, count: int) -> None:
        for line in self.findings.broken[self._shown :]:
            print(f"\n{line}")
        self._shown = len(self.findings.broken)
        print(f"\r{what} {done}/{count}, broken {self._shown}", end="", flush=True)


class Disk:
    """A small tmpfs; mounting one takes the rights of root."""

    def __init__(self, mount: Path, size: int) -> None:
        self.mount, self.size = mount, size

    def __enter__(self) -> None:
        self.mount.mkdir(parents=True, exist_ok=True)
        options = ["-t", "tmpfs", "-o", f"size={self.size}"]
        subprocess.run(["mount", *options, "tmpfs", str(self.mount)], check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self.mount)], check=True)

    def fill(self, room: int) -> None:
        """Leave that many bytes."""
        free = os.statvfs(self.mount)
        with (self.mount / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - room))

    def empty(self) -> None:
        """Make room again."""
        (self.mount / "ballast").unlink()


def flip_bits(bundle: Path, work: Path, count: int, seed: int) -> Findings:
    """Flip one bit at a time, every file of the bundle in turn; `work` gets a copy of it.

    Each time, opening must refuse the bundle. The file's own reader, asked without the checksums,
    may read it or refuse it in one line; anything else would be a traceback.
    """
    findings, chance = Findings(), random.Random(seed)
    shutil.rmtree(work, ignore_errors=True)
    copy = Path(shutil.copytree(bundle, work))
    intact = open_bundle(copy)
    reports = {copy / "parity.html", copy / "parity.json"}  # made later, by purpose not listed
    files = sorted(file for file in copy.rglob("*") if file.is_file() and file not in reports)
    for number in range(count):
        file = files[number % len(files)]
        place, bit = chance.randrange(file.stat().st_size), chance.randrange(8)
        name = f"{file.relative_to(copy)}, byte {place}, bit {bit}"
        _flip(file, place, bit)
        findings.counts["flips"] += 1
        try:
            open_bundle(copy)
            findings.broken.append(f"{name}: accepted")
        except UserError as error:
            findings.expect("\n" not in str(error), f"{name}: {error}")
        except Exception as error:  # the very thing that is looked for
            findings.broken.append(f"{name}: {error!r}")
        try:
            _read(file, intact)
            findings.counts["read without checksums"] += 1
        except CoremlSDError:
            findings.counts["refused by the reader itself"] += 1
        except Exception as error:  # the very thing that is looked for
            findings.broken.append(f"{name}: its reader gave {error!r}")
        _flip(file, place, bit)
    try:
        open_bundle(copy)
    except CoremlSDError as error:
        findings.broken.append(f"with every bit flipped back: {error}")
    findings.counts["files"] = min(len(files), count)
    return findings


def _flip(file: Path, place: int, bit: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(place)
        (byte,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte ^ 1 << bit]))


def _read(file: Path, bundle: Bundle) -> None:
    """Read one file as the commands do."""
    from coreml_sd.prompt import PromptEncoder
    from coreml_sd.runtimes.litert.file import TFLiteFile
    from coreml_sd.runtimes.mil import MilPackage

    package = next((each for each in file.parents if each.suffix == ".mlpackage"), None)
    if package is not None:
        held = MilPackage(package)
        for program in held.programs:
            for function in program.functions:
                list(program.operations(function))
        held.weight_bytes()
    elif file.suffix == ".tflite":
        network = TFLiteFile(file)
        network.op_counts()
        network.weight_bytes()
    elif file.name in ("vocab.json", "merges.txt"):
        PromptEncoder(bundle.path, bundle.pipeline["tokenizer"]).encode("a cat")
    elif file.name == "manifest.json":
        open_bundle(bundle.path, check=False)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--full-disks", type=int, default=10)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--bundle", type=Path, help="for the flips; else the undisturbed one")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--jobs", type=int, nargs="*", default=(1, 2), help="one of them each time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("fault-harness"))
    parser.add_argument("rest", nargs="*", help="options of `convert`, after --")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    work = arguments.work.resolve()
    command = [*CONVERT, arguments.model, *(arguments.rest or ["--palettize", "6", "--no-verify"])]
    disturber = Disturber(command, work, arguments.seed)
    print(f"undisturbed: {disturber.seconds:.1f} s, {len(disturber.whole)} files", flush=True)
    if arguments.kills:
        disturber.kills(arguments.kills, tuple(arguments.jobs))
    for count, early in ((arguments.stops // 2, True), (-(-arguments.stops // 2), False)):
        if count:
            disturber.stops(count, tuple(arguments.jobs), early=early)
    try:
        disturber.full_disks(arguments.full_disks, work / "disk")
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"\nno full disks: a tmpfs cannot be mounted here ({error})")
    flips = Findings()
    if arguments.flips:
        bundle = arguments.bundle or work / "whole" / "b"
        flips = flip_bits(bundle, work / "flipped", arguments.flips, arguments.seed)
    counts = disturber.findings.counts + flips.counts
    broken = disturber.findings.broken + flips.broken
    slowest = disturber.findings.slowest_stop
    print(
        "\n" + json.dumps({**counts, "slowest stop": round(slowest, 2), "broken": broken}, indent=1)
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
