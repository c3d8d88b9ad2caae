"""The denoising loop over any runtime: the scheduler is diffusers' own, on the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coreml_sd.runtimes.base import Array, Network
from coreml_sd.schedulers.schedulers import scaled_input, takes_generator


class HostLoop:
    """Runs a UNet and steps the latent with a diffusers scheduler; guidance is combined in fp32.

    Args:
        scheduler: with its timesteps set.
        generator: for schedulers that draw noise in every step.
    """

    def __init__(self, unet: Network, scheduler: Any, generator: torch.Generator) -> None:
        self._unet, self._scheduler = unet, scheduler
        self._extra = {"generator": generator} if takes_generator(scheduler) else {}
        self._latent, self._guidance = torch.empty(0), 1.0
        self._conditions: Mapping[str, Array] = {}

    @property
    def count(self) -> int:
        """How often `step` is called for a picture."""
        return len(self._scheduler.timesteps)

    def begin(self, latent: Array, conditions: Mapping[str, Array], guidance: float) -> None:
        """Put in what the steps start from.

        Args:
            latent: `(1, C, h, w)`, noise times the scheduler's first sigma.
            conditions: the UNet's inputs that stay for all steps, each of two rows: for the
                negative prompt, then for the prompt; or of one for a UNet that is told the
                guidance.
            guidance: 1 or less switches guidance off.
        """
        self._latent = torch.from_numpy(latent)
        self._conditions, self._guidance = conditions, guidance

    def step(self, index: int) -> None:
        """One step."""
        timestep = self._scheduler.timesteps[index]
        sample = scaled_input(self._scheduler, self._latent, timestep).numpy()
        prediction = self._predict(sample, float(timestep))
        stepped = self._scheduler.step(prediction, timestep, self._latent, **self._extra)
        self._latent = stepped.prev_sample

    def latent(self) -> Array:
        """The latent `(1, C, h, w)` after the last step."""
        array: Array = self._latent.numpy()
        return array

    def _predict(self, sample: NDArray[np.float32], timestep: float) -> torch.Tensor:
        """The guided prediction `(1, C, h, w)`."""
        count = len(next(iter(self._conditions.values())))
        guided = self._guidance > 1.0 and count > 1
        rows = self._rows(sample, timestep, (0, 1) if guided else (count - 1,))
        if not guided:
            return rows
        unconditional, conditional = rows.chunk(2)
        return unconditional + self._guidance * (conditional - unconditional)

    def _rows(
        self, sample: NDArray[np.float32], timestep: float, wanted: tuple[int, ...]
    ) -> torch.Tensor:
        """The UNet for the wanted rows of the conditions, in as many runs as its batch asks for."""
        batch = self._unet.inputs["sample"].shape[0]
        rows = []
        for begin in range(0, len(wanted), batch):
            piece = list(wanted[begin : begin + batch])
            padded = piece + piece[-1:] * (batch - len(piece))
            result = self._unet.run(
                {
                    "sample": np.repeat(sample, batch, axis=0),
                    "timestep": np.full(batch, timestep, dtype=np.float32),
                    **{name: array[padded] for name, array in self._conditions.items()},
                }
            )["noise_pred"]
            rows.append(result[: len(piece)])
        return torch.from_numpy(np.concatenate(rows).astype(np.float32))
