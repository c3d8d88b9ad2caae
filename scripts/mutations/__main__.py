"""Change one line at a time in a copy of the code; the tests named for it must fail.

Every mutation is in a list, scripts/mutations/ROOM.toml. One that survives is cured by a test.
"""

from __future__ import annotations

import argparse
import fnmatch
import queue
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.mutations.entries import Mutation, read_lists
from scripts.mutations.trial import LIBRARIES, Trial
from scripts.mutations.verdict import BROKEN, KILLED, Verdict

ROOT = Path(__file__).resolve().parents[2]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/mutate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="a name, ROOM/NAME or a pattern; repeatable"
    )
    parser.add_argument("--jobs", type=int, default=1, help="copies to work in at the same time")
    parser.add_argument("--list", action="store_true", help="show the list and end")
    return parser.parse_args()


def chosen(mutations: Sequence[Mutation], patterns: Sequence[str] | None) -> list[Mutation]:
    """Those whose name, or room and name, fits one of the patterns."""
    if not patterns:
        return list(mutations)
    return [
        each
        for each in mutations
        if any(
            fnmatch.fnmatchcase(name, pattern)
            for pattern in patterns
            for name in (each.name, f"{each.room}/{each.name}")
        )
    ]


def try_all(
    root: Path,
    mutations: Sequence[Mutation],
    jobs: int = 1,
    libraries: Sequence[str] = LIBRARIES,
) -> dict[Mutation, Verdict]:
    """The verdict on each mutation, told as it comes.

    Raises:
        SystemExit: a test that is named fails without any mutation.
    """
    found = {each: Verdict(BROKEN, fault) for each in mutations if (fault := each.fault(root))}
    sound = [each for each in mutations if each not in found]
    with tempfile.TemporaryDirectory(prefix="coreml-sd-mutations-") as work:
        folder = Path(work)
        shared = folder / "shared"
        trials = [Trial(root, folder / str(job), shared, libraries) for job in range(jobs)]
        killers = sorted({killer for each in sound for killer in each.killers})
        try:
            print(f"{len(killers)} tests on intact code", flush=True)
            if wrong := trials[0].intact(killers) if killers else "":
                raise SystemExit(f"{wrong}\nthese tests fail without any mutation")
            found |= _judged(trials, sound)
        finally:
            for trial in trials:
                trial.close()
    return {each: found[each] for each in mutations}


def _judged(trials: Sequence[Trial], mutations: Sequence[Mutation]) -> dict[Mutation, Verdict]:
    free: queue.SimpleQueue[Trial] = queue.SimpleQueue()
    for trial in trials:
        free.put(trial)
    found: dict[Mutation, Verdict] = {}
    began = time.monotonic()

    def judge(mutation: Mutation) -> None:
        trial, started = free.get(), time.monotonic()
        try:
            verdict = trial.judge(mutation)
        finally:
            free.put(trial)
        found[mutation] = verdict
        now = time.monotonic()
        left = (now - began) / len(found) * (len(mutations) - len(found))
        print(
            f"{len(found):3}/{len(mutations)}  {verdict.kind:8}  {now - started:5.1f} s  "
            f"{mutation.room}/{mutation.name}: {verdict.detail}  ({left / 60:.0f} min left)",
            flush=True,
        )

    with ThreadPoolExecutor(len(trials)) as pool:
        list(pool.map(judge, mutations))
    return found


def table(found: dict[Mutation, Verdict]) -> str:
    """How many of each room were killed, and all that were not."""
    lines = []
    for room in dict.fromkeys(each.room for each in found):
        kinds = [verdict.kind for each, verdict in found.items() if each.room == room]
        lines.append(f"{room:12} {kinds.count(KILLED):3} of {len(kinds):3} killed")
    for each, verdict in found.items():
        if verdict.kind != KILLED:
            lines.append(f"{verdict.kind}: {each.room}/{each.name} ({verdict.detail})")
    return "\n".join(lines)


def main() -> int:
    arguments = parse_arguments()
    mutations = chosen(read_lists(), arguments.only)
    if not mutations:
        print(f"no mutation is named {', '.join(arguments.only or [])}", file=sys.stderr)
        return 2
    if arguments.list:
        for each in mutations:
            print(f"{each.room}/{each.name}  {each.file}: {each.find}  ->  {each.replace}")
        return 0
    began = time.monotonic()
    found = try_all(ROOT, mutations, max(1, arguments.jobs))
    print(f"\n{table(found)}\n{(time.monotonic() - began) / 60:.1f} min")
    return any(verdict.kind != KILLED for verdict in found.values())


if __name__ == "__main__":
    sys.exit(main())
