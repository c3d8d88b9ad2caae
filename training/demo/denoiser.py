"""Train the text encoder and the UNet together on cached latents (v-prediction)."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import nn
from transformers import CLIPTokenizer

from training.mobile_diffusion.objectives.diffusion import min_snr_weights

from .captions import draw_caption
from .loop import TrainingLoop
from .networks import SCHEDULER, new_text_encoder, new_unet

BATCH = 64
EMPTY_CAPTIONS = 0.1  # what makes guidance possible


def train_denoiser(
    folder: Path,
    latents: torch.Tensor,
    names: list[tuple[str, str]],
    tokenizer: CLIPTokenizer,
    minutes: float,
    on_sample: Callable[[nn.ModuleDict, dict[str, torch.Tensor]], None],
) -> nn.ModuleDict:
    """Train on scaled `latents` `[n, 4, h, w]` whose subject and background are `names`.

    `on_sample` gets the networks and their averaged weights now and then.
    """
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    modules = nn.ModuleDict(
        {"unet": new_unet(), "text_encoder": new_text_encoder(len(tokenizer))}
    ).to(device)
    scheduler = DDPMScheduler.from_config(SCHEDULER)
    signal = scheduler.alphas_cumprod
    weights = min_snr_weights(signal / (1 - signal)).to(device)
    loop = TrainingLoop(
        folder / "denoiser.pt", modules, minutes=minutes, learning_rate=1e-3, batch=BATCH
    )

    def loss(step: int) -> torch.Tensor:
        chance = np.random.default_rng(step)
        chosen = chance.integers(0, len(latents), BATCH)
        tokens = _tokens(tokenizer, [names[index] for index in chosen], step).to(device)
        clean = latents[chosen].to(device)
        noise = torch.from_numpy(chance.standard_normal(clean.shape, np.float32)).to(device)
        timesteps = torch.from_numpy(chance.integers(0, 1000, BATCH)).to(device)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        wanted = scheduler.get_velocity(clean, noise, timesteps)
        with torch.autocast(device.type, torch.bfloat16):
            context = modules["text_encoder"](tokens).last_hidden_state
            predicted = modules["unet"](noisy, timesteps, context).sample
        errors = (predicted.float() - wanted).square().mean(dim=(1, 2, 3))
        weighted: torch.Tensor = errors * weights[timesteps]
        return weighted.mean()

    loop.run(loss, lambda averaged: on_sample(modules, averaged))
    modules.load_state_dict(loop.ema_state())
    return modules.eval()


def _tokens(tokenizer: CLIPTokenizer, names: list[tuple[str, str]], step: int) -> torch.Tensor:
    generator = random.Random(step)
    captions = [
        "" if generator.random() < EMPTY_CAPTIONS else draw_caption(*name, generator)
        for name in names
    ]
    encoded = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    ids: torch.Tensor = encoded.input_ids
    return ids
