"""How far a training is: a bar on a terminal, else a line now and then."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 30
_KEPT = 0.98  # of the running average of a loss, each step


class TrainingProgress:
    """Shows step, average losses, samples per second and the time left.

    Args:
        name: of the stage.
        total: steps in all; `done` of them were made before this run.
        batch: samples of a step.
        shown: False for all processes but one.
    """

    def __init__(
        self, name: str, total: int, batch: int, *, done: int = 0, shown: bool = True
    ) -> None:
        self.name, self.total, self.batch = name, total, batch
        self._shown, self._first, self._step = shown, done, done
        self._started = self._told = time.monotonic()
        self._averages: dict[str, float] = {}
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[losses]}, {task.fields[rate]:.1f} samples/s, left"),
            TimeRemainingColumn(),
            disable=not (shown and Console().is_terminal),
        )
        self._task = self._bar.add_task(name, total=total, completed=done, losses="", rate=0.0)

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @property
    def rate(self) -> float:
        """Samples per second since this run began."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        return (self._step - self._first) * self.batch / seconds

    @property
    def averages(self) -> dict[str, float]:
        """The running average of each loss."""
        return dict(self._averages)

    def advance(self, step: int, losses: dict[str, float]) -> None:
        """After step number `step`, counted from 1."""
        self._step = step
        for name, value in losses.items():
            before = self._averages.get(name, value)
            self._averages[name] = _KEPT * before + (1 - _KEPT) * value
        self._bar.update(self._task, completed=step, losses=self._losses(), rate=self.rate)
        now = time.monotonic()
        if self._shown and self._bar.disable and now - self._told > LINE_SECONDS:
            self._told = now
            left = (self.total - step) * self.batch / max(self.rate, 1e-9) / 60
            print(
                f"{self.name}: step {step} of {self.total}, {self._losses()}, "
                f"{self.rate:.1f} samples/s, {left:.1f} minutes left",
                flush=True,
            )

    def _losses(self) -> str:
        return ", ".join(f"{name} {value:.4f}" for name, value in self._averages.items())
