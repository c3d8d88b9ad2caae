#!/usr/bin/env python3
"""Disturb conversions and bundles at seeded random moments and places, and see what they do.

kill -9 while a conversion runs, Ctrl-C and SIGTERM, a disk that fills up, flipped bits in every
file of a bundle. Broken are: a bundle that opens and differs from the undisturbed one, a traceback,
a process or a file that outlives its conversion, a rerun that fails or gives other bytes.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.faults.disturber import Disturber
from scripts.faults.findings import Findings
from scripts.faults.flips import flip_bits

CONVERT = [sys.executable, "-m", "coreml_sd.cli.main", "convert"]


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
