"""Components converted beside each other, each share in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import psutil

from coreml_sd.conversion.finished import FinishedComponent
from coreml_sd.conversion.run import ConversionRun
from coreml_sd.errors import CoremlSDError, KilledError, UserError
from coreml_sd.processes.child import Child
from coreml_sd.processes.stopping import when_stopped
from coreml_sd.progress import Advance, Stage
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.registry import targets

Finished = Callable[[str, FinishedComponent], None]

# A process with the libraries and one large component in work, with room to spare.
PROCESS_BYTES = 1_300_000_000
# One that solves palettes: a large weight for each of a few threads.
_AHEAD_BYTES = 500_000_000
# Below, starting an interpreter and loading its libraries costs more than it saves.
_WORTH_A_PROCESS = 300_000_000
_MOST_JOBS = 2  # the UNet takes as long as all the rest


def choose_jobs(plan: Plan, jobs: int | None, memory: int | None) -> int:
    """How many processes to use: as asked, but no more than memory allows.

    Args:
        memory: bytes that all processes together may use; what is free where not given.

    Raises:
        UserError: not even one process fits into the memory that was given.
    """
    if memory is not None and memory < PROCESS_BYTES:
        raise UserError(
            f"memory {memory / 1e9:.1f} GB: a conversion needs {PROCESS_BYTES / 1e9:.1f} GB; "
            "give it more"
        )
    if not runs_beside(plan):
        return 1
    fitting = max(1, (memory or psutil.virtual_memory().available) // PROCESS_BYTES)
    if jobs is None:
        cores, large = os.cpu_count() or 1, _weight_bytes(plan) >= _WORTH_A_PROCESS
        jobs = _MOST_JOBS if cores >= _MOST_JOBS and large else 1
    return min(jobs, fitting, len(plan.components))


def runs_beside(plan: Plan) -> bool:
    """Whether components may be converted in processes beside each other."""
    return all(target.runs_beside for target in targets(plan.config.targets))


def share_out(plan: Plan, jobs: int) -> list[list[str]]:
    """Names of components for each process, evenly by weight; the first share is the largest."""
    sizes = {component.name: _part_bytes(plan, component.name) for component in plan.components}
    shares: list[list[str]] = [[] for _ in range(jobs)]
    loads = [0] * jobs
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        least = loads.index(min(loads))
        shares[least].append(name)
        loads[least] += sizes[name]
    for names in shares[1:]:  # what runs its network needs most, and others need least early on
        names.sort(key=lambda name: plan.model.component(name).role != "latent_decoder")
    return shares


def component_ahead(
    plan: Plan, shares: Sequence[Sequence[str]], jobs: int | None, memory: int | None
) -> str | None:
    """The component whose palettes pay for one more process: the largest, if its files are its own
    and that process may run beside the others."""
    if plan.palettes is None or not runs_beside(plan) or not shares[0]:
        return None
    if jobs is not None and jobs <= len(shares):
        return None
    name = shares[0][0]
    shares_files = plan.model.component(name).part != name
    if shares_files or plan.config.prune is not None:
        return None
    room = (memory or psutil.virtual_memory().available) - len(shares) * PROCESS_BYTES
    worth = _part_bytes(plan, name) >= _WORTH_A_PROCESS
    return name if worth and room >= _AHEAD_BYTES and (os.cpu_count() or 1) > 1 else None


class ComponentProcess:
    """One process that converts a share of the components."""

    def __init__(
        self,
        run: ConversionRun,
        names: Sequence[str],
        finished: Finished = lambda name, component: None,
    ) -> None:
        """
        Args:
            finished: called with each component and its name when its files are whole.
        """
        self._finished = finished
        self.names = list(names)
        self.components: dict[str, FinishedComponent] = {}
        self._error: CoremlSDError | OSError | None = None
        self._progress = run.progress
        request = {
            "config": run.plan.config.to_dict(),
            "components": self.names,
            "staging": str(run.staging.resolve()),
            "verify": run.verify,
            "threads": run.plan.threads,
        }
        self._stages: dict[int, tuple[contextlib.ExitStack, Advance]] = {}
        self._child = Child("coreml_sd.conversion.process_main", request, self._answered)

    def finish(self) -> dict[str, FinishedComponent]:
        """Wait; gives its components.

        Raises:
            CoremlSDError: what the process failed with (a `UserError` or `OSError` as such).
        """
        status = self._child.wait()
        self._close_stages()
        if self._error is not None:
            raise self._error
        if status or set(self.components) != set(self.names):
            reason = f"signal {-status}" if status < 0 else f"status {status}"
            advice = "; out of memory? try --jobs 1" if status == -signal.SIGKILL else ""
            raise KilledError(f"{', '.join(self.names)}: the process ended ({reason}){advice}")
        return self.components

    def kill(self) -> None:
        """End the process if it still runs, without waiting for it."""
        self._child.kill()

    def stop(self) -> None:
        """End the process if it still runs, and wait for that."""
        self._child.stop()
        self._close_stages()

    def _close_stages(self) -> None:
        while self._stages:
            self._stages.popitem()[1][0].close()

    def _answered(self, message: list[Any]) -> None:
        kind, *rest = message
        if kind == "begin":
            own = contextlib.ExitStack()
            self._stages[rest[0]] = own, own.enter_context(self._progress.stage(Stage(**rest[1])))
        elif kind == "advance":
            self._stages[rest[0]][1](rest[1], rest[2])
        elif kind == "end":
            self._stages.pop(rest[0])[0].close()
        elif kind == "finished":
            component = msgspec.convert(rest[1], FinishedComponent)
            self._finished(rest[0], component)
            self.components[rest[0]] = component
        elif kind in ("note", "warn"):
            getattr(self._progress, kind)(rest[0])
        elif kind == "error":
            self._error = (UserError if rest[0] == 2 else CoremlSDError)(rest[1])
        elif kind == "killed":
            self._error = KilledError(rest[0])
        elif kind == "os-error":
            self._error = OSError(*rest)


@contextlib.contextmanager
def working(
    run: ConversionRun,
    shares: Sequence[Sequence[str]],
    finished: Finished = lambda name, component: None,
) -> Iterator[list[ComponentProcess]]:
    """Workers for the given shares; none is left when the block ends, however it ends."""
    processes: list[ComponentProcess] = []

    def kill() -> None:
        for process in list(processes):
            process.kill()

    try:
        with when_stopped(kill):
            for names in shares:
                processes.append(ComponentProcess(run, names, finished))
            yield processes
    finally:
        for process in processes:
            process.stop()


def _weight_bytes(plan: Plan) -> int:
    return sum(_part_bytes(plan, component.name) for component in plan.components)


def _part_bytes(plan: Plan, name: str) -> int:
    return plan.model.folder.weight_bytes(plan.model.component(name).part)
