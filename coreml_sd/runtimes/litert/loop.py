"""The denoising loop in the runtime's own buffers: the host sees the latent at the end only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from coreml_sd.bundle import Bundle
from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.base import Array, Network
from coreml_sd.runtimes.litert.network import LiteRTNetwork
from coreml_sd.schedulers.linear_step import GUIDED, GUIDED_NAMES, LATENT_NAMES, LATENTS, LinearStep

_CONTEXT = "encoder_hidden_states"
_PREDICTION = "noise_pred"
_UNET_INPUTS = {"sample", "timestep", _CONTEXT}
_LATENT_RING = (*LATENT_NAMES, "next_latent")
_GUIDED_RING = (*GUIDED_NAMES[1:], "guided")
_PROOF = 1e-4  # relative error up to which a step through shared buffers counts as right


def open_resident_loop(bundle: Bundle, unet: Network) -> ResidentLoop | None:
    """The loop for a UNet of the litert runtime; None where the host has to loop.

    That is: another runtime, a bundle without a scheduler step, or a UNet with further inputs.

    Raises:
        UserError: the step's file is damaged.
    """
    entry = bundle.manifest.get("scheduler_step")
    if entry is None or not isinstance(unet, LiteRTNetwork) or unet.inputs.keys() != _UNET_INPUTS:
        return None
    # Guidance and the sum of the step are fp32 on the GPU too.
    path = bundle.path / entry["path"]
    return ResidentLoop(
        unet, LiteRTNetwork(path, accelerator=unet.accelerator, threads=1, exact=True)
    )


class ResidentLoop:
    """Runs a UNet and its scheduler step in turn, each reading what the other left.

    Buffers change places instead of being copied. In a step the host writes the timestep, the
    step's weights and, for schedulers that draw it, the noise; it reads nothing. Close the loop
    before the UNet; the step's network is closed with the loop.

    Attributes:
        shared: whether the two networks can read each other's buffers. Where they cannot, the host
            copies the prediction and the UNet's input in every step.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.9).
    """

    def __init__(self, unet: LiteRTNetwork, step: LiteRTNetwork) -> None:
        self._unet, self._step = unet, step
        self._batch = unet.inputs["sample"].shape[0]
        # At batch 1 the two rows of guidance are two passes, each with buffers of its own.
        spare = range(2 - self._batch)
        self._made = [[unet.new_buffer(name) for _ in spare] for name in (_CONTEXT, _PREDICTION)]
        self._contexts = [unet.buffer(_CONTEXT), *self._made[0]]
        self._predictions = [unet.buffer(_PREDICTION), *self._made[1]]
        self._prediction_names = (_PREDICTION, "noise_pred_text")[: len(self._predictions)]
        self._rings = [
            (names, deque(step.buffer(name) for name in names))
            for names in (_LATENT_RING, _GUIDED_RING)
        ]
        self._table: Sequence[LinearStep] = ()
        self._passes: Sequence[int] = ()
        self._guidance = 1.0
        self._noise: Callable[[], Array] | None = None
        self.shared = self._share()

    def run(
        self,
        table: Sequence[LinearStep],
        latent: Array,
        context: Array,
        guidance: float,
        *,
        noise: Callable[[], Array] | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> Array:
        """All steps of `table`; the last latent `(1, C, h, w)`.

        Args:
            latent: `(1, C, h, w)`, noise times the scheduler's first sigma.
            context: `(2, C, 1, T)`, the negative prompt's embedding, then the prompt's.
            guidance: 1 or less switches guidance off.
            noise: draws `(1, C, h, w)`; needed where a step of the table draws.
            on_step: called after each step with its index.

        Raises:
            CoremlSDError: LiteRT fails.
        """
        self.begin(table, latent, context, guidance, noise)
        for index in range(self.count):
            self.step(index)
            if on_step is not None:
                on_step(index)
        return self.latent()

    @property
    def count(self) -> int:
        """How often `step` is called for a picture."""
        return len(self._table)

    def begin(
        self,
        table: Sequence[LinearStep],
        latent: Array,
        context: Array,
        guidance: float,
        noise: Callable[[], Array] | None = None,
    ) -> None:
        """Put in what the steps start from (see `run`)."""
        guided = guidance > 1.0
        self._table, self._guidance = table, guidance if guided else 1.0
        self._noise = noise
        self._write_context(context if guided else context[[1, 1]])
        last = len(self._predictions) - 1
        self._passes = range(last + 1) if guided else (last,)
        for names, ring in self._rings:
            self._bind(names, ring)
        for name in self._step.inputs.keys() - {"weights"}:
            # What the first steps do not have is read with weight 0, which does not stop a NaN.
            self._step.write(name, np.zeros(self._step.inputs[name].shape, np.float32))
        self._step.write("latent", latent.astype(np.float32))
        scaled = (latent * table[0].input_scale).astype(np.float32)
        self._unet.write("sample", np.repeat(scaled, self._batch, axis=0))

    def step(self, index: int) -> None:
        """One step; returns when it is done or, on a GPU, under way.

        Raises:
            CoremlSDError: the step draws noise and none is given, or LiteRT fails.
        """
        step = self._table[index]
        scale = self._table[index + 1].input_scale if index + 1 < len(self._table) else 1.0
        self._predict(step.timestep)
        self._write_weights(step.weights(self._guidance, scale))
        if step.draws:
            self._write_noise(step)
        for names, ring in self._rings:
            self._bind(names, ring)
        self._step.invoke()
        for _, ring in self._rings:
            ring.rotate(1)  # what was written is the newest now; the oldest is written over next
        if not self.shared:
            self._unet.write("sample", self._step.read("sample"))

    def latent(self) -> Array:
        """The latent `(1, C, h, w)` after the last step."""
        return self._step.read("next_latent")

    def close(self) -> None:
        """Free the step's network and the loop's buffers; the UNet has its own again."""
        self._unet.bind(_CONTEXT, self._contexts[0])
        self._unet.bind(_PREDICTION, self._predictions[0])
        for buffer in (buffer for made in self._made for buffer in made):
            buffer.destroy()
        self._made = []
        self._step.close()

    def _predict(self, timestep: float) -> None:
        """The UNet's passes over what its buffers hold."""
        self._unet.write("timestep", np.full(self._batch, timestep, np.float32))
        for row in self._passes:
            self._unet.bind(_CONTEXT, self._contexts[row])
            self._unet.bind(_PREDICTION, self._predictions[row])
            self._unet.invoke()
            if not self.shared:
                self._step.write(self._prediction_names[row], self._unet.read(_PREDICTION))

    def _write_context(self, rows: Array) -> None:
        """Both rows, where they stay for all steps."""
        for begin, buffer in zip(range(0, 2, self._batch), self._contexts, strict=True):
            self._unet.bind(_CONTEXT, buffer)
            self._unet.write(_CONTEXT, rows[begin : begin + self._batch].astype(np.float32))

    def _write_weights(self, weights: Sequence[float]) -> None:
        self._step.write("weights", np.array(weights, np.float32).reshape(1, -1, 1, 1))

    def _write_noise(self, step: LinearStep) -> None:
        """Drawn for a weight of 0 too, so that the next step gets what it gets from diffusers."""
        if self._noise is None:
            raise CoremlSDError("the scheduler draws noise, and no noise is given")
        noise = self._noise()
        if step.noise:
            self._step.write("noise", noise)

    def _bind(self, names: Sequence[str], buffers: Sequence[Any]) -> None:
        for name, buffer in zip(names, buffers, strict=True):
            self._step.bind(name, buffer)

    def _share(self) -> bool:
        """Let the step read and write the UNet's buffers, if it can."""
        names = (*self._prediction_names, "sample")
        own = [self._step.buffer(name) for name in names]
        try:
            self._bind(names, [*self._predictions, self._unet.buffer("sample")])
            if self._shares():
                return True
        except CoremlSDError:
            pass  # the buffers are of different kinds: the driver of one refuses the other's
        self._bind(names, own)
        return False

    def _shares(self) -> bool:
        """Whether a step through the shared buffers gives what it should."""
        generator = np.random.default_rng(0)
        rows = generator.standard_normal((2, *self._unet.inputs["sample"].shape[1:]))
        rows = rows.astype(np.float32)
        for begin, name in zip(range(0, 2, self._batch), self._prediction_names, strict=True):
            self._step.write(name, rows[begin : begin + self._batch])
        trial = LinearStep(0.0, 1.0, (0.0,) * LATENTS, (1.0, *(0.0,) * (GUIDED - 1)), 0.0, False)
        self._write_weights(trial.weights(guidance=0.25, next_input_scale=0.5))
        self._step.invoke()
        expected = 0.5 * (rows[:1] + 0.25 * (rows[1:] - rows[:1]))
        error = np.abs(self._step.read("sample") - expected).max()
        return bool(error <= _PROOF * np.abs(expected).max())
