"""Prompt to picture over any runtime: tokens, guided denoising, decoding."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from coreml_sd.bundle import Bundle
from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.files.limits import LIMITS
from coreml_sd.generation.conditions import ConditionEncoder, told_denoiser
from coreml_sd.generation.host_loop import HostLoop
from coreml_sd.generation.memory_log import MemoryLog
from coreml_sd.generation.residency import Residency
from coreml_sd.runtimes.base import Array
from coreml_sd.runtimes.open_runtime import Runtime
from coreml_sd.schedulers.linear_scheduler import linear_steps
from coreml_sd.schedulers.own import default_scheduler
from coreml_sd.schedulers.schedulers import begin, initial_noise_scale, make_scheduler

if TYPE_CHECKING:
    from coreml_sd.runtimes.litert.loop import ResidentLoop

_DECODER = "vae_decoder"
StepReport = Callable[[int, int, float], None]  # step from 1, steps, seconds of this step


@dataclass(frozen=True)
class GenerationRequest:
    """What to draw. `guidance` 1 or less switches guidance off; `scheduler` None is the model's."""

    prompt: str
    negative_prompt: str = ""
    steps: int = 20
    guidance: float = 7.5
    seed: int = 0
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise UserError("the prompt is empty; say what to draw")
        if not 1 <= self.steps <= LIMITS.steps:
            raise UserError(f"steps = {self.steps}: give a number from 1 to {LIMITS.steps}")
        if not abs(self.guidance) <= LIMITS.guidance:
            most = LIMITS.guidance
            raise UserError(f"guidance = {self.guidance}: give a number up to {most:g}")
        if not -(1 << 63) <= self.seed < 1 << 64:
            raise UserError(f"seed = {self.seed}: give a number of at most 64 bits")


@dataclass(frozen=True)
class GeneratedImage:
    """`pixels` `(H, W, 3)` uint8, and the part of the prompt that did not fit."""

    pixels: NDArray[np.uint8]
    cut: str
    seconds_per_step: float


class Generator:
    """Generates pictures from one bundle on one runtime.

    Args:
        memory_policy: what stays in memory (see `Residency`); default: the runtime's.
        log: where to note what is loaded and freed when.

    Raises:
        UserError: an unknown memory policy.
    """

    def __init__(
        self,
        bundle: Bundle,
        runtime: Runtime,
        *,
        memory_policy: str | None = None,
        log: MemoryLog | None = None,
    ) -> None:
        self.bundle, self.runtime = bundle, runtime
        self.facts: dict[str, Any] = bundle.pipeline
        self._conditions = ConditionEncoder(bundle.path, self.facts, LIMITS.steps)
        self._residency = Residency(runtime.open, memory_policy or runtime.memory_policy, log)
        self._resident_loop: ResidentLoop | None = None

    def __call__(
        self, request: GenerationRequest, on_step: StepReport | None = None
    ) -> GeneratedImage:
        """One picture.

        Raises:
            UserError: an unknown scheduler, one that cannot honour the model's config or take as
                many steps, or a bundle that lacks a component.
            CoremlSDError: the networks gave NaN or inf.
        """
        name = request.scheduler or default_scheduler(self.facts).name
        scheduler = make_scheduler(name, self.facts["scheduler"])
        begin(scheduler, request.steps)
        self._prepare(request.steps)
        conditions = self._conditions(
            request.negative_prompt,
            request.prompt,
            request.guidance,
            self._residency.network,
            self._residency.done_with,
        )
        latent, pace = self._denoise(request, scheduler, conditions.inputs, on_step)
        return GeneratedImage(self._decode(latent), conditions.cut, pace)

    def _prepare(self, steps: int) -> None:
        """Choose the denoiser for so many steps, and let go of another one."""
        denoiser = told_denoiser(self.facts, steps)
        if denoiser != self._conditions.denoiser:
            self._close_loop()
            self._conditions = ConditionEncoder(self.bundle.path, self.facts, steps)
        self._residency.begin(self._conditions.networks, denoiser.component, _DECODER)

    def close(self) -> None:
        """Free every network."""
        self._close_loop()
        self._residency.close()

    def _close_loop(self) -> None:
        if self._resident_loop:
            self._resident_loop.close()
            self._resident_loop = None

    def _denoise(
        self,
        request: GenerationRequest,
        scheduler: Any,
        conditions: Mapping[str, Array],
        on_step: StepReport | None,
    ) -> tuple[NDArray[np.float32], float]:
        """The last latent `(1, C, h, w)` and the seconds per step; the scheduler has its steps."""
        generator = torch.Generator().manual_seed(request.seed)
        shape = (1, self.facts["latent_channels"], *self.facts["latent_size"])
        latent = torch.randn(shape, generator=generator) * initial_noise_scale(scheduler)
        loop = self._begin(request, scheduler, latent, conditions, generator)
        begun = time.perf_counter()
        for index in range(loop.count):
            started = time.perf_counter()
            pace = (started - begun) / index if index else math.inf
            left = loop.count - index
            self._residency.before_step(_DECODER, pace * left, last=left == 1)
            loop.step(index)
            self._residency.note("step", str(index + 1))
            if on_step:
                on_step(index + 1, loop.count, time.perf_counter() - started)
        result, seconds = loop.latent(), time.perf_counter() - begun
        denoiser = self._conditions.denoiser.component
        if not self._residency.keeps(denoiser):
            self._close_loop()
            self._residency.done_with(denoiser)
        if not np.isfinite(result).all():
            raise CoremlSDError("the latent holds NaN or inf; run `coreml-sd parity` on the bundle")
        return result, seconds / loop.count

    def _begin(
        self,
        request: GenerationRequest,
        scheduler: Any,
        latent: torch.Tensor,
        conditions: Mapping[str, Array],
        generator: torch.Generator,
    ) -> HostLoop | ResidentLoop:
        """The loop in the runtime's own buffers where there is one for this scheduler."""
        told = self._conditions.denoiser
        denoiser = self._residency.network(told.component)
        combines = told.guidance == "classifier-free"  # as that loop does
        if self._resident_loop is None and self.runtime.resident_loop and combines:
            self._resident_loop = self.runtime.resident_loop(denoiser)
        table = linear_steps(scheduler, request.steps) if self._resident_loop else None
        if self._resident_loop is None or table is None:
            host = HostLoop(denoiser, scheduler, generator)
            host.begin(latent.numpy(), conditions, request.guidance)
            return host

        def noise() -> NDArray[np.float32]:
            drawn: NDArray[np.float32] = torch.randn(latent.shape, generator=generator).numpy()
            return drawn

        context = conditions["encoder_hidden_states"]  # it runs no UNet that takes more
        self._resident_loop.begin(table, latent.numpy(), context, request.guidance, noise)
        return self._resident_loop

    def _decode(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        z = latent / self.facts["scaling_factor"] + self.facts["shift_factor"]
        image = self._residency.network(_DECODER).run({"z": z})["image"]
        self._residency.done_with(_DECODER)
        if not np.isfinite(image).all():
            raise CoremlSDError(
                "the picture holds NaN or inf; run `coreml-sd parity` on the bundle"
            )
        pixels = np.rint((np.clip(image[0], -1, 1) + 1) * 127.5).astype(np.uint8)
        picture: NDArray[np.uint8] = pixels.transpose(1, 2, 0)
        return picture
