"""The loop of every stage: turns of one or more networks, averages, checkpoints, progress.

accelerate does what depends on the machine: processes, precision, sharding.
"""

from __future__ import annotations

import contextlib
import copy
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from torch import nn

from training.mobile_diffusion.chance import Chance, Share
from training.mobile_diffusion.config import StageConfig
from training.progress import TrainingProgress

Losses = dict[str, torch.Tensor]  # what is minimized is their sum


@dataclass(frozen=True)
class Turn:
    """One network's part of a step: its loss, with all other networks as they are.

    Attributes:
        network: the name of the one that learns.
        losses: from the random numbers of this turn to weighted losses.
        every: it learns in each step whose number this divides.
        first_step: before it the network does not learn.
    """

    network: str
    losses: Callable[[Chance], Losses]
    every: int = 1
    first_step: int = 0


class Loop:
    """Trains networks for a number of steps; a stopped or killed run goes on from its checkpoint.

    Args:
        folder: of the checkpoints, `step-N`.
        networks: by name; those that a turn names learn.
        averaged: which of them have an average of their weights (EMA) kept beside.
    """

    def __init__(
        self,
        folder: Path,
        config: StageConfig,
        accelerator: Accelerator,
        networks: Mapping[str, nn.Module],
        *,
        averaged: Sequence[str] = (),
        betas: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        self.folder, self.config, self.accelerator = folder, config, accelerator
        self.step = 0
        self._averages = {name: self._frozen_copy(networks[name]) for name in averaged}
        self.networks: dict[str, Any] = {
            name: accelerator.prepare(network) for name, network in networks.items()
        }
        self._learning = {
            name: [p for p in network.parameters() if p.requires_grad]
            for name, network in self.networks.items()
        }
        self._optimizers = {
            name: accelerator.prepare(
                torch.optim.AdamW(
                    self._learning[name],
                    lr=config.learning_rate,
                    betas=(betas or {}).get(name, (0.9, 0.99)),
                    weight_decay=config.weight_decay,
                )
            )
            for name in self.networks
        }
        accelerator.register_for_checkpointing(self)
        self._resume()

    def run(
        self, turns: Sequence[Turn], on_sample: Callable[[], None] | None = None
    ) -> dict[str, float]:
        """Train to the last step, or until SIGTERM or ctrl-C (the state is saved first).

        `on_sample` is called in the main process now and then. Returns the average losses.

        Raises:
            SystemExit: it was stopped.
        """
        with _signals() as stop:
            return self._run(turns, on_sample, stop)

    def _run(
        self,
        turns: Sequence[Turn],
        on_sample: Callable[[], None] | None,
        stop: list[int],
    ) -> dict[str, float]:
        main = self.accelerator.is_main_process
        progress = TrainingProgress(
            self.folder.name, self.config.steps, self.config.batch, done=self.step, shown=main
        )
        saved = sampled = time.monotonic()
        with progress:
            while self.step < self.config.steps and not self._agreed(bool(stop)):
                losses = self._one_step(turns)
                progress.advance(self.step, losses)
                now = time.monotonic()
                if self._agreed(now - saved > self.config.checkpoint_seconds):
                    saved = now
                    self.save()
                if on_sample and main and now - sampled > self.config.sample_seconds:
                    sampled = now
                    on_sample()
        self.save()
        if stop:
            raise SystemExit("stopped; run the same command to go on")
        if on_sample and main:
            on_sample()
        return progress.averages

    def still(self, name: str) -> nn.Module:
        """The network for another one's turn: gradients pass through it and are not collected."""
        whole: nn.Module = self.accelerator.unwrap_model(self.networks[name])
        return whole

    def average(self, name: str) -> nn.Module:
        """The network with averaged weights, outside of accelerate's wrapping."""
        whole: nn.Module = self.accelerator.unwrap_model(self._averages[name])
        return whole

    def chance(self, turn: int) -> Chance:
        """The random numbers of one turn of the step that is next."""
        share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        return Chance(
            self.config.seed,
            self.step,
            turn,
            self.config.batch,
            share=share,
            device=self.accelerator.device,
        )

    def save(self) -> None:
        """Write a checkpoint; a reader sees the one before or this one, never a part."""
        partial = self.folder / f"partial-{self.step}"
        target = self.folder / f"step-{self.step}"
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        before = _checkpoints(self.folder)
        if target.exists():  # saved twice at one step
            before.remove(target)
            shutil.rmtree(target)
        partial.rename(target)
        for each in before:
            shutil.rmtree(each)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has beside networks and optimizers."""
        return {"step": self.step, "averages": self._whole_averages()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.step = state["step"]
        for name, values in state["averages"].items():
            self._averages[name].load_state_dict(values)

    def _whole_averages(self) -> dict[str, dict[str, torch.Tensor]]:
        """Those that are whole in each process; sharded ones are saved as networks are."""
        if self._is_sharded:
            return {}
        return {name: network.state_dict() for name, network in self._averages.items()}

    @property
    def _is_sharded(self) -> bool:
        return self.accelerator.distributed_type is DistributedType.FSDP

    def _frozen_copy(self, network: nn.Module) -> Any:
        copied = copy.deepcopy(network).requires_grad_(False)
        if self._is_sharded:
            return self.accelerator.prepare(copied)
        return copied.to(self.accelerator.device)

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.accelerator.is_main_process:
            for each in self.folder.glob("partial-*"):
                shutil.rmtree(each)
        self.accelerator.wait_for_everyone()
        found = _checkpoints(self.folder)
        if found:
            self.accelerator.load_state(str(found[-1]))

    def _one_step(self, turns: Sequence[Turn]) -> dict[str, float]:
        rate = self._learning_rate()
        told: dict[str, float] = {}
        for index, turn in enumerate(turns):
            if self.step % turn.every or self.step < turn.first_step:
                continue
            optimizer = self._optimizers[turn.network]
            for group in optimizer.param_groups:
                group["lr"] = rate
            self._only_learns(turn.network)
            losses = turn.losses(self.chance(index))
            self.accelerator.backward(sum(losses.values()))
            network = self.networks[turn.network]
            self.accelerator.clip_grad_norm_(network.parameters(), self.config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if turn.network in self._averages:
                self._average(turn.network)
            told |= {name: self._mean(value) for name, value in losses.items()}
        self.step += 1
        return told

    def _mean(self, loss: torch.Tensor) -> float:
        """Over all processes."""
        return float(self.accelerator.reduce(loss.detach(), "mean"))

    def _only_learns(self, name: str) -> None:
        """No other network collects gradients in this turn."""
        for other, parameters in self._learning.items():
            for parameter in parameters:
                parameter.requires_grad_(other == name)

    def _learning_rate(self) -> float:
        """Warm-up, then along a cosine down to a hundredth."""
        done = self.step / self.config.steps
        rate = self.config.learning_rate * (0.505 + 0.495 * math.cos(math.pi * done))
        return rate * min(1.0, (self.step + 1) / max(1, self.config.warmup))

    @torch.no_grad()
    def _average(self, name: str) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        pairs = zip(
            self._averages[name].parameters(), self.networks[name].parameters(), strict=True
        )
        for average, value in pairs:
            average.lerp_(value.detach(), 1 - decay)

    def _agreed(self, wanted: bool) -> bool:
        """What the main process wants: all processes save at the same step."""
        if self.accelerator.num_processes == 1:
            return wanted
        told = torch.tensor([float(wanted)], device=self.accelerator.device)
        torch.distributed.broadcast(told, src=0)
        return bool(told.item())


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """What was received of SIGTERM and ctrl-C, which stop nothing meanwhile."""
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(each, lambda number, _: received.append(number)) for each in numbers]
    try:
        yield received
    finally:
        for each, handler in zip(numbers, before, strict=True):
            signal.signal(each, handler)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.split("-")[1]))
