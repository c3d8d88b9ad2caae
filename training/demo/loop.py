"""A training loop with a time budget: resumable at any moment, EMA, progress with time left."""

import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

CHECKPOINT_SECONDS = 120
SAMPLE_SECONDS = 600
REPORT_SECONDS = 30  # between lines where no terminal shows the bar


class TrainingLoop:
    """Trains `modules` until the budget is spent; the state lives in one checkpoint file.

    `loss(step)` gives the loss of one batch. The learning rate warms up, then falls along a cosine
    of the time spent, so that a stopped run goes on where it was and a larger budget extends it.
    """

    def __init__(
        self,
        checkpoint: Path,
        modules: nn.ModuleDict,
        *,
        minutes: float,
        learning_rate: float,
        batch: int,
        ema_decay: float = 0.999,
    ) -> None:
        self.checkpoint, self.modules = checkpoint, modules
        self.budget, self.learning_rate, self.batch = minutes * 60, learning_rate, batch
        self.ema_decay = ema_decay
        self.step, self.spent = 0, 0.0
        trained = [p for p in modules.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trained, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.ema = {name: value.detach().clone() for name, value in modules.state_dict().items()}
        if checkpoint.exists():
            self._load()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.4f}, {task.fields[rate]:.0f} samples/s, left"),
            TimeRemainingColumn(),
            disable=not Console().is_terminal,
        )
        self._task = self._bar.add_task(checkpoint.stem, total=self.budget, loss=0.0, rate=0.0)

    def run(
        self,
        loss: Callable[[int], torch.Tensor],
        on_sample: Callable[[dict[str, torch.Tensor]], None] | None = None,
    ) -> None:
        """Train to the end of the budget, or until SIGTERM or ctrl-C (the state is saved).

        `on_sample` gets the averaged weights now and then.
        """
        stop: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _frame: stop.append(received))
        started, spent_before, first = time.monotonic(), self.spent, self.step
        saved = reported = sampled = started
        average = math.nan
        self.modules.train()
        self._bar.start()
        while self.spent < self.budget and not stop:
            value = self._one_step(loss)
            average = value if math.isnan(average) else 0.98 * average + 0.02 * value
            now = time.monotonic()
            self.spent = spent_before + now - started
            rate = (self.step - first) * self.batch / (now - started)
            self._bar.update(self._task, completed=self.spent, loss=average, rate=rate)
            if now - reported > REPORT_SECONDS and not self._bar.console.is_terminal:
                reported = now
                self._report(average, rate)
            if now - saved > CHECKPOINT_SECONDS:
                saved = now
                self.save()
            if on_sample and now - sampled > SAMPLE_SECONDS:
                sampled = now
                on_sample(self.ema)
        self._bar.stop()
        self.save()
        if stop:
            raise SystemExit("stopped; run the same command to go on")

    def ema_state(self) -> dict[str, torch.Tensor]:
        """The averaged weights, by the names of `modules`."""
        return self.ema

    def save(self) -> None:
        """Write the checkpoint; a reader sees the old one or the new one, never a part."""
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(
            {
                "modules": self.modules.state_dict(),
                "ema": self.ema,
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "spent": self.spent,
            },
            partial,
        )
        partial.replace(self.checkpoint)

    def _load(self) -> None:
        state: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema, self.step, self.spent = state["ema"], state["step"], state["spent"]

    def _one_step(self, loss: Callable[[int], torch.Tensor]) -> float:
        done = min(1.0, self.spent / self.budget)
        rate = self.learning_rate * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-6
        rate *= min(1.0, (self.step + 1) / 200)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        value = loss(self.step)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._average()
        return float(value.detach())

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.modules.state_dict().items():
            average = self.ema[name]
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)

    def _report(self, average: float, rate: float) -> None:
        left = max(0.0, self.budget - self.spent) / 60
        print(
            f"{self.checkpoint.stem}: step {self.step}, loss {average:.4f}, "
            f"{rate:.0f} samples/s, {left:.1f} minutes left",
            flush=True,
        )
