"""Pictures on the way: what the averaged weights make of a few samples."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from coreml_sd.models.mobile_diffusion.vae import MobileDiffusionVAE
from training.mobile_diffusion.data.picture_set import PictureSet, to_pictures, to_tensor
from training.mobile_diffusion.objectives.network import GuidedDenoiser
from training.mobile_diffusion.objectives.step_distillation import sample
from training.mobile_diffusion.schedule import Schedule, spaced
from training.mobile_diffusion.stages.denoiser import TextSamples

NAME = "samples.png"
_COLUMNS = 8
STEPS = 20
_GUIDANCE = 3.0


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


@torch.no_grad()
def drawn(
    path: Path,
    denoiser: GuidedDenoiser,
    texts: TextSamples,
    vae: MobileDiffusionVAE,
    schedule: Schedule,
    *,
    steps: int = STEPS,
) -> None:
    """Save 32 pictures, drawn by DDIM, by captions from all over the set."""
    pictures, device = texts.samples.set, texts.text_encoder.device
    numbers = np.linspace(0, len(pictures) - 1, 32).astype(int)
    context = texts.states([pictures.caption(int(n), random.Random(0)) for n in numbers])
    noise = torch.randn(32, *texts.latents.shape, generator=torch.Generator().manual_seed(0))
    latent = sample(
        denoiser,
        schedule,
        noise.to(device),
        torch.tensor(spaced(schedule, steps)),
        context,
        torch.full((32,), _GUIDANCE, device=device),
    )
    decoded = to_pictures(vae.to(device).decode(latent / texts.latents.scale).sample)
    write_grid(path, [decoded[first : first + _COLUMNS] for first in range(0, 32, _COLUMNS)])
    print(f"{path.parent.name}: {path}", flush=True)


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
