"""One way to run a UNet, in a new process, so that its memory and its threads are its own."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coreml_sd.targets.tflite.profiles import Quantization
from scripts.bench.networks import Measured
from scripts.bench.resident import resident

Array = NDArray[np.float32]
Feeds = dict[str, NDArray[Any]]
Runner = Callable[[], Array]
Weights = Quantization | Literal["bf16"]


@dataclass(frozen=True)
class Contestant:
    """A runtime with its numbers: torch in `fp32` or `bf16`, or a .tflite of a form."""

    label: str
    form: str  # torch, straight, or a profile's name
    weights: Weights


@dataclass(frozen=True)
class Memory:
    """In GB: the most that was resident at any time, loading included, and what is resident now
    without the pages of mapped files."""

    peak: float
    private: float


class Child:
    """A contestant that was loaded in a new process and waits to be asked for steps."""

    def __init__(self, measured: Measured, contestant: Contestant, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.contestant, self.threads = contestant, threads
        self._pipe, theirs = context.Pipe()
        given = (measured, contestant, threads, theirs)
        self._process = context.Process(target=_serve, args=given, daemon=True)
        self._process.start()
        theirs.close()
        self._answer()  # sent when it is ready

    def step(self, repeats: int = 1) -> float:
        """Seconds of one step, the mean of some without a pause."""
        return float(self._ask(repeats)) / repeats

    def output(self) -> Array:
        """The result of one step."""
        result: Array = self._ask("output")
        return result

    def memory(self) -> Memory:
        """What it has needed so far."""
        return Memory(*self._ask("memory"))

    def close(self) -> None:
        """End the process and give its memory back."""
        self._process.terminate()
        self._process.join()

    def _ask(self, question: str | int) -> Any:
        self._pipe.send(question)
        return self._answer()

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            status = self._process.exitcode
            raise SystemExit(f"{self.contestant.label} ended (exit status {status})") from None


def _serve(measured: Measured, contestant: Contestant, threads: int, pipe: Connection) -> None:
    run = open_runner(measured, contestant, threads)
    run()  # the first step allocates, and belongs to loading
    pipe.send("ready")
    while True:
        try:
            question = pipe.recv()
        except EOFError:  # whoever asked has gone
            return
        match question:
            case int(repeats):
                started = time.perf_counter()
                for _ in range(repeats):
                    run()
                pipe.send(time.perf_counter() - started)
            case "output":
                pipe.send(run())
            case "memory":
                pipe.send((resident("VmHWM"), resident("RssAnon") + resident("RssShmem")))


def open_runner(measured: Measured, contestant: Contestant, threads: int) -> Runner:
    """Load a contestant; what comes back does one step over fixed inputs."""
    given = measured.component.sample_inputs(0)
    feeds = {name: array.astype(np.float32) for name, array in given.items()}
    if contestant.form == "torch":
        return _torch_runner(measured, contestant.weights, threads, feeds)
    return _litert_runner(measured.file(contestant.form, contestant.weights), threads, feeds)


def _litert_runner(path: Path, threads: int, feeds: Feeds) -> Runner:
    from coreml_sd.runtimes.litert.network import LiteRTNetwork

    network = LiteRTNetwork(path, threads=threads)
    assert "torch" not in sys.modules  # its memory would be counted
    return lambda: network.run(feeds)["noise_pred"].astype(np.float32)


def _torch_runner(measured: Measured, weights: str, threads: int, feeds: Feeds) -> Runner:
    import torch
    from diffusers import UNet2DConditionModel

    torch.set_num_threads(threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[weights]
    network = UNet2DConditionModel.from_pretrained(
        measured.torch_folder(weights), torch_dtype=dtype, local_files_only=True
    )
    network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    run = measured.component.published(network)
    inputs = [torch.from_numpy(array).to(dtype) for array in feeds.values()]
    inputs[0] = inputs[0].to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def step() -> Array:
        (result,) = run(*inputs)
        return np.asarray(result.float().numpy())

    return step
