"""Train the VAE: all renders to latents and back, with weight on the edges."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from .loop import TrainingLoop
from .networks import new_vae

BATCH = 16
LATENT_NOISE = 0.05  # of the latent's spread: the decoder must bear the denoiser's errors


def to_tensor(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """`[n, h, w, 3]` uint8 to `[n, 3, h, w]` float, -1 to 1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def edges(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Differences of neighbouring pixels, down and across."""
    return pictures.diff(dim=2), pictures.diff(dim=3)


def reconstruction_loss(decoded: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1 and squared error of the pixels, and L1 of their differences."""
    edge = sum(
        F.l1_loss(ours, theirs) for ours, theirs in zip(edges(decoded), edges(wanted), strict=True)
    )
    return F.l1_loss(decoded, wanted) + 2 * F.mse_loss(decoded, wanted) + edge


def train_vae(
    folder: Path, pictures: NDArray[np.uint8], minutes: float, *, decoder_only: bool = False
) -> AutoencoderKL:
    """Train on `pictures` `[n, h, w, 3]` for the budget; returns the averaged weights.

    `decoder_only` goes on with the encoder frozen, so that cached latents stay valid.
    """
    torch.manual_seed(0)
    vae = new_vae()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    modules = nn.ModuleDict({"vae": vae}).to(device)
    name = "decoder" if decoder_only else "vae"
    if decoder_only:
        _start_from(folder / "vae.pt", modules)
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    loop = TrainingLoop(
        folder / f"{name}.pt", modules, minutes=minutes, learning_rate=1e-3, batch=BATCH
    )

    def loss(step: int) -> torch.Tensor:
        chosen = np.random.default_rng(step).integers(0, len(pictures), BATCH)
        wanted = to_tensor(pictures[chosen]).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = vae.encode(wanted).latent_dist
            latent = posterior.sample()
            spread = latent.detach().std()
            latent = latent + LATENT_NOISE * spread * torch.randn_like(latent)
            decoded = vae.decode(latent).sample
        kl: torch.Tensor = posterior.kl().mean()
        return reconstruction_loss(decoded.float(), wanted) + 1e-6 * kl

    loop.run(loss)
    modules.load_state_dict(loop.ema_state())
    return vae.eval()


def _start_from(checkpoint: Path, modules: nn.ModuleDict) -> None:
    modules.load_state_dict(torch.load(checkpoint, weights_only=True)["ema"])


@torch.no_grad()
def encode_all(vae: AutoencoderKL, pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Latent means of all pictures, unscaled: `[n, 4, h, w]`."""
    device = next(vae.parameters()).device
    whole: Any = to_tensor(pictures)  # torch has no types for `split`
    means = [vae.encode(batch.to(device)).latent_dist.mean.cpu() for batch in whole.split(64)]
    return torch.cat(means)


def cached_latents(folder: Path, vae: AutoencoderKL, pictures: NDArray[np.uint8]) -> torch.Tensor:
    """`encode_all`, kept in a file until the encoder is trained again."""
    cache, trained = folder / "latents.pt", folder / "vae.pt"
    if cache.exists() and trained.exists() and cache.stat().st_mtime > trained.stat().st_mtime:
        kept: torch.Tensor = torch.load(cache, weights_only=True)
        return kept
    latents = encode_all(vae, pictures)
    torch.save(latents, cache)
    return latents


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, latents: torch.Tensor) -> NDArray[np.uint8]:
    """Decode unscaled latents to `[n, h, w, 3]` uint8."""
    device = next(vae.parameters()).device
    whole: Any = latents
    decoded = torch.cat([vae.decode(batch.to(device)).sample.cpu() for batch in whole.split(64)])
    pixels = ((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()


def mean_psnr(pictures: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float:
    """Mean over the pictures of 20 log10(255 / rmse), in dB."""
    errors = np.square(pictures.astype(np.float32) - decoded).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255.0**2 / np.maximum(errors, 1e-9))))
