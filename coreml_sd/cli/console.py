"""What commands show on a terminal: progress and one-line warnings on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import psutil
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from coreml_sd.progress import Advance, Stage


class _Quiet(Console):
    """Ends in silence where the reader has seen enough, as `head` has."""

    def on_broken_pipe(self) -> None:
        """Nothing failed."""
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()
        raise SystemExit(0)


console = _Quiet(stderr=True, highlight=False)


def results() -> Console:
    """Where a command prints what it was asked for."""
    return _Quiet(highlight=False)


_MEMORY_EVERY = 1.0  # seconds between two looks at the memory
_LINE_EVERY = 15.0  # seconds between two lines where nothing can be redrawn


class ConsoleProgress:
    """Stages as rich progress bars (see `coreml_sd.progress.Progress`), and below them the time,
    what is left of it and the memory of all processes. Where the output is no terminal, a line of
    that now and then.

    `begun`, where set, is told each stage that begins; `left` says how many seconds
    are left.
    """

    def __init__(self) -> None:
        self.begun: Callable[[Stage], None] | None = None
        self.left: Callable[[], float] | None = None
        self._started = time.perf_counter()
        self._memory = Memory()
        self._open: list[str] = []
        self._over = threading.Event()
        self._bars = _Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._bars.status = self.status

    def __enter__(self) -> ConsoleProgress:
        if console.is_terminal:
            self._bars.start()
        else:
            threading.Thread(target=self._tell, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._bars.over = True
        self._bars.stop()

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[Advance]:
        """A bar that pulses until a count is known and stays, full, when the stage is done."""
        if self.begun is not None:
            self.begun(stage)
        title = stage.title
        self._open.append(title)
        task = self._bars.add_task(title, total=None)
        yield lambda done, of: self._bars.update(task, completed=done, total=of)
        total = self._bars.tasks[self._bars.task_ids.index(task)].total or 1
        self._bars.update(task, completed=total, total=total)
        self._bars.stop_task(task)
        self._open.remove(title)

    def warn(self, message: str) -> None:
        """One line above the bars."""
        console.print(f"Warning: {message}", style="yellow", soft_wrap=not console.is_terminal)

    def note(self, message: str) -> None:
        """One line above the bars."""
        console.print(f"Note: {message}", soft_wrap=not console.is_terminal)

    def status(self) -> str:
        """Time so far, time left and memory, in one line."""
        parts = [f"{clock(time.perf_counter() - self._started)} elapsed"]
        if self.left is not None and not self._over.is_set():
            parts.append(f"about {clock(self.left())} left")
        parts.append(f"{gigabytes(self._memory.held())} of memory")
        return ", ".join(parts)

    def _tell(self) -> None:
        while not self._over.wait(_LINE_EVERY):
            doing = "; ".join(self._open)
            console.print(f"{self.status()}{': ' if doing else ''}{doing}", soft_wrap=True)


class Memory:
    """Resident bytes of this process and all that it started, looked at now and then."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._looked = -_MEMORY_EVERY
        self._held = 0

    def held(self) -> int:
        """At most a second old."""
        now = time.monotonic()
        if now - self._looked >= _MEMORY_EVERY:
            self._looked = now
            self._held = sum(map(_resident, self._tree()))
        return self._held

    def _tree(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return [self._process, *self._process.children(recursive=True)]
        return [self._process]


class _Bars(Progress):
    """Bars with a line of text below; the latest bars, as many as a terminal has lines."""

    status: Callable[[], str] = staticmethod(str)
    over = False

    def get_renderables(self) -> Iterable[RenderableType]:
        room = len(self.tasks) if self.over else max(1, console.height - 2)
        yield self.make_tasks_table(self.tasks[-room:])
        yield Text(self.status(), style="dim")


def megabytes(count: float) -> str:
    """Bytes as MB (10^6), two digits below 10 MB."""
    return f"{count / 1e6:,.2f} MB" if count < 1e7 else f"{count / 1e6:,.1f} MB"


def gigabytes(count: float) -> str:
    """Bytes as GB (10^9), two digits."""
    return f"{count / 1e9:.2f} GB"


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _resident(process: psutil.Process) -> int:
    try:
        held: int = process.memory_info().rss
    except psutil.Error:  # it has just ended
        return 0
    return held
