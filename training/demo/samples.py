"""Sample grids on the way: what the averaged weights draw for a few fixed captions."""

import copy
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler
from PIL import Image
from torch import nn
from transformers import CLIPTokenizer

from .autoencoder import reconstruct
from .networks import LATENT_SIZE, SCHEDULER

STEPS, GUIDANCE = 20, 3.0


@torch.no_grad()
def draw(
    modules: nn.ModuleDict, tokenizer: CLIPTokenizer, captions: list[str], seed: int = 0
) -> torch.Tensor:
    """Scaled latents `[n, 4, h, w]` of the captions, guided, by DPM-Solver++."""
    device = next(modules.parameters()).device
    texts = [""] * len(captions) + captions
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    context = modules["text_encoder"](ids.to(device)).last_hidden_state
    scheduler = DPMSolverMultistepScheduler.from_config(SCHEDULER)
    scheduler.set_timesteps(STEPS, device=device)
    shape = (len(captions), 4, LATENT_SIZE, LATENT_SIZE)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
    for timestep in scheduler.timesteps:
        both = torch.cat([latents, latents])
        unguided, guided = modules["unet"](both, timestep, context).sample.chunk(2)
        prediction = unguided + GUIDANCE * (guided - unguided)
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    return latents


def write_grid(
    path: Path,
    vae: AutoencoderKL,
    modules: nn.ModuleDict,
    averaged: dict[str, torch.Tensor],
    tokenizer: CLIPTokenizer,
    captions: list[str],
    scaling_factor: float,
) -> None:
    """Draw the captions with the averaged weights and save them as rows of eight."""
    network = copy.deepcopy(modules).eval()
    network.load_state_dict(averaged)
    pictures = reconstruct(vae, draw(network, tokenizer, captions) / scaling_factor)
    rows = [np.concatenate(pictures[i : i + 8], axis=1) for i in range(0, len(pictures), 8)]
    Image.fromarray(np.concatenate(rows)).save(path)
