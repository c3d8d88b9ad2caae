"""Pictures on the way: what the averaged weights make of a few samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from coreml_sd.models.mobile_diffusion.vae import MobileDiffusionVAE
from training.mobile_diffusion.data.picture_set import PictureSet, to_pictures, to_tensor

_COLUMNS = 8


@torch.no_grad()
def reconstructions(path: Path, vae: MobileDiffusionVAE, pictures: PictureSet) -> float:
    """Save 32 pictures, each over its reconstruction; their mean PSNR in dB."""
    numbers = np.linspace(0, len(pictures) - 1, 32).astype(np.int64)
    wanted = pictures.pictures(numbers)
    device = next(vae.parameters()).device
    latent = vae.encode(to_tensor(wanted).to(device)).latent_dist.mean
    decoded = to_pictures(vae.decode(latent).sample)
    rows = [
        row
        for first in range(0, len(wanted), _COLUMNS)
        for row in (wanted[first : first + _COLUMNS], decoded[first : first + _COLUMNS])
    ]
    write_grid(path, rows)
    found = psnr(wanted, decoded)
    print(f"{path.parent.name}: reconstructions at {found:.2f} dB, {path}", flush=True)
    return found


def psnr(wanted: NDArray[np.uint8], found: NDArray[np.uint8]) -> float:
    """Mean over the pictures `[n, h, w, 3]`, in dB."""
    errors = np.square(wanted.astype(np.float32) - found).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255.0**2 / np.maximum(errors, 1e-9))))


def write_grid(path: Path, rows: list[NDArray[np.uint8]]) -> None:
    """Save rows of pictures `[n, h, w, 3]` as one PNG."""
    lines = [np.concatenate(list(row), axis=1) for row in rows]
    partial = path.with_suffix(".partial.png")
    Image.fromarray(np.concatenate(lines)).save(partial)
    partial.replace(path)
