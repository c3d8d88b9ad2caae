"""Latents of the pictures: made once for small sets, else as they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from coreml_sd.models.mobile_diffusion.vae import MobileDiffusionVAE
from training.mobile_diffusion.data.picture_set import PictureSet, to_tensor

_KEPT = 20_000  # pictures whose latents are kept at most
_MEASURED = 512  # pictures whose spread gives the scale
_AT_ONCE = 32


class Latents:
    """Scaled latent means `(n, C, h, w)` by number; `scale` is the VAE's scaling factor.

    Args:
        vae: its encoder; put on the accelerator's device.
        kept: the file for the latents of a small set.
    """

    def __init__(
        self, pictures: PictureSet, vae: MobileDiffusionVAE, kept: Path, accelerator: Accelerator
    ) -> None:
        self._set, self._device = pictures, accelerator.device
        self._vae = vae.to(self._device).eval().requires_grad_(False)
        self._all: torch.Tensor | None = None
        if len(pictures) <= _KEPT:
            with accelerator.main_process_first():
                if not kept.exists():
                    partial = kept.with_suffix(".partial")
                    whole = self._encode(np.arange(len(pictures))).contiguous()
                    save_file({"latents": whole}, partial)
                    partial.replace(kept)
                self._all = load_file(kept)["latents"]
        chosen = np.linspace(0, len(pictures) - 1, min(_MEASURED, len(pictures))).astype(np.int64)
        self.scale = float(1 / self._unscaled(chosen).std())

    def __call__(self, numbers: NDArray[np.int64]) -> torch.Tensor:
        """Those of the pictures with these numbers, on the device."""
        return self.scale * self._unscaled(numbers).to(self._device)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one: `(C, h, w)`."""
        return tuple(self._unscaled(np.zeros(1, np.int64)).shape[1:])

    def _unscaled(self, numbers: NDArray[np.int64]) -> torch.Tensor:
        if self._all is not None:
            return self._all[torch.from_numpy(numbers)]
        return self._encode(numbers)

    @torch.no_grad()
    def _encode(self, numbers: NDArray[np.int64]) -> torch.Tensor:
        means = []
        for first in range(0, len(numbers), _AT_ONCE):
            batch = to_tensor(self._set.pictures(numbers[first : first + _AT_ONCE]))
            means.append(self._vae.encode(batch.to(self._device)).latent_dist.mean.float().cpu())
        return torch.cat(means)
