#!/usr/bin/env python3
"""Time one step of a UNet in torch and in LiteRT: the mobile form and the straight export.

Each runtime has a process of its own, at its best number of threads. The processes stay alive and
do their steps in turn, as many at once as memory allows; the fastest torch run is in every group.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from coreml_sd.models.find_model import DEMO
from scripts.bench import contest, report
from scripts.bench.contestant import Contestant
from scripts.bench.networks import SD15, Measured, prepare, prepare_folders

MOBILE, STRAIGHT = "cpu", "straight"  # the profile for CPUs, and diffusers' UNet as it is
CONTESTANTS = (
    Contestant("torch fp32", "torch", "fp32"),
    Contestant("torch bf16", "torch", "bf16"),
    Contestant("litert fp32", MOBILE, "fp32"),
    Contestant("litert fp16", MOBILE, "fp16"),
    Contestant("litert dynamic-int8", MOBILE, "dynamic-int8"),
    Contestant("litert fp32, straight", STRAIGHT, "fp32"),
    Contestant("litert dynamic-int8, straight", STRAIGHT, "dynamic-int8"),
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=f"{DEMO},{SD15}", help=f"of {DEMO}, {SD15}")
    parser.add_argument("--batch", type=int, default=1, choices=(1, 2))
    parser.add_argument("--size", help="picture size, e.g. 512x512 (default: the model's own)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", help="counts to try, e.g. 2,4 (default: 1, 2, 4 to all cores)")
    parser.add_argument(
        "--memory", type=float, help="GB for all processes (default: 70 %% of free)"
    )
    parser.add_argument("--only", help="labels that are run, separated by semicolons")
    parser.add_argument("--gpu-compile", action="store_true", help="compile for the GPU instead")
    parser.add_argument("--work", type=Path, default=ROOT / "build/bench", help="kept files")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--write", type=Path, help="put the tables into this Markdown file")
    return parser.parse_args()


def say(line: str) -> None:
    print(f"  {line}", flush=True)


def measure(measured: Measured, arguments: argparse.Namespace) -> report.Section:
    """All contestants over one network."""
    wanted = arguments.only.split(";") if arguments.only else None
    chosen = [each for each in CONTESTANTS if wanted is None or each.label in wanted]
    prepare_folders(measured)
    for each in chosen:
        if each.form != "torch" and each.weights != "bf16":
            prepare(measured, each.form, each.weights)
    given = arguments.threads.split(",") if arguments.threads else contest.thread_counts()
    counts = [int(count) for count in given]
    trials = [contest.try_alone(measured, each, counts, say) for each in chosen]
    exact = next(t.output for t in trials if t.contestant.label == "torch fp32")
    reference = contest.best_torch(trials)
    memory = arguments.memory or 0.7 * psutil.virtual_memory().available / 1e9
    found: dict[str, contest.Result] = {}
    for group in contest.groups(trials, reference, memory):
        say("in turn: " + ", ".join(trial.contestant.label for trial in group))
        for result in contest.alternate(measured, group, exact, arguments.rounds, say):
            found.setdefault(result.contestant.label, result)
    results = [found[each.label] for each in chosen]
    return report.speed_section(measured, results, found[reference.contestant.label])


def main() -> None:
    arguments = parse_arguments()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # who waits must not take the cores
    arguments.work.mkdir(parents=True, exist_ok=True)
    sections: list[report.Section] = []
    for model in arguments.models.split(","):
        measured = Measured(model, arguments.batch, arguments.size, arguments.work.resolve())
        print(f"{model}, batch {arguments.batch}", flush=True)
        if arguments.gpu_compile:
            from scripts.bench import gpu

            sections.append(gpu.compile_all(measured, arguments.memory, say))
        else:
            sections.append(measure(measured, arguments))
        print(f"\n{sections[-1].text}\n", flush=True)
    if arguments.json:
        facts = [section.facts for section in sections]
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")
    if arguments.write:
        report.write(arguments.write, sections)


if __name__ == "__main__":
    main()
