"""What commands show on a terminal: progress, tables, one-line warnings (all on stderr)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from coreml_sd.progress import Advance

console = Console(stderr=True, highlight=False)


class ConsoleProgress:
    """Stages as rich progress bars (see `coreml_sd.progress.Progress`)."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )

    def __enter__(self) -> ConsoleProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        """A bar that pulses until a count is known and stays, full, when the stage is done."""
        task = self._bars.add_task(title, total=None)
        yield lambda done, of: self._bars.update(task, completed=done, total=of)
        total = self._bars.tasks[self._bars.task_ids.index(task)].total or 1
        self._bars.update(task, completed=total, total=total)
        self._bars.stop_task(task)

    def warn(self, message: str) -> None:
        """One line above the bars."""
        console.print(f"Warning: {message}", style="yellow")

    def note(self, message: str) -> None:
        """One line above the bars."""
        console.print(f"Note: {message}")


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 2
) -> Table:
    """A table whose first columns are text and the others are figures."""
    grid = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        grid.add_column(
            column,
            justify="left" if index < text_columns else "right",
            no_wrap=index >= text_columns or text_columns == 1,
            overflow="fold",
        )
    for row in rows:
        grid.add_row(*row)
    return grid


def megabytes(count: float) -> str:
    """Bytes as MB (10^6), two digits below 10 MB."""
    return f"{count / 1e6:,.2f} MB" if count < 1e7 else f"{count / 1e6:,.1f} MB"
