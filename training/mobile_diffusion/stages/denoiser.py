"""Stage `base`: text encoder and UNet with softmax attention. Stage `relu`: its attention by ReLU.

The paper's (arXiv 2311.16567): ReLU attention by fine-tuning a trained softmax model (T3.5); the
prediction of v, which distillation wants, is recalled. Ours: the learning rates, and that the text
encoder is trained with the UNet in `base` and stays as it is afterwards.
"""

from __future__ import annotations

import random

import torch
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from coreml_sd.models.mobile_diffusion.unet import MobileDiffusionUNet
from training.mobile_diffusion.chance import Chance
from training.mobile_diffusion.config import DenoiserConfig
from training.mobile_diffusion.data.latents import Latents
from training.mobile_diffusion.data.picture_set import PictureSet
from training.mobile_diffusion.loop import Loop, Losses, Turn
from training.mobile_diffusion.objectives.diffusion import velocity_loss
from training.mobile_diffusion.schedule import Schedule


class Denoiser(nn.Module):
    """The UNet with its text encoder: x_t `(B, C, h, w)`, t `(B,)`, token ids `(B, T)` to v."""

    def __init__(self, unet: MobileDiffusionUNet, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, x: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        context = self.text_encoder(ids).last_hidden_state
        v: torch.Tensor = self.unet(x, t, context).sample
        return v


class Samples:
    """What a step takes of the data: latents and token ids, of numbers drawn by chance."""

    def __init__(self, pictures: PictureSet, latents: Latents, tokenizer: CLIPTokenizer) -> None:
        self.set, self.latents, self.tokenizer = pictures, latents, tokenizer

    def draw(self, chance: Chance, *, empty: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled latents `(B, C, h, w)` and ids `(B, T)`; `empty` of the captions are empty."""
        numbers = chance.chosen(len(self.set))
        texts = []
        for number, seed in zip(numbers, chance.seeds(), strict=True):
            generator = random.Random(int(seed))
            caption = self.set.caption(int(number), generator)
            texts.append("" if generator.random() < empty else caption)
        latents = self.latents(numbers)
        return latents, self.ids(texts).to(latents.device)

    def ids(self, texts: list[str]) -> torch.Tensor:
        """Token ids `(n, T)`."""
        told = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        ids: torch.Tensor = told.input_ids
        return ids


class TextSamples:
    """The same with a text encoder that stays as it is: latents and their texts' states."""

    def __init__(self, samples: Samples, text_encoder: CLIPTextModel) -> None:
        self.samples, self.latents = samples, samples.latents
        self.text_encoder = text_encoder.eval().requires_grad_(False)

    def draw(self, chance: Chance) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled latents `(B, C, h, w)` and the states `(B, T, D)`."""
        latents, ids = self.samples.draw(chance)
        return latents, self._states(ids)

    def states(self, texts: list[str]) -> torch.Tensor:
        """Of texts, `(n, T, D)`, on the text encoder's device."""
        return self._states(self.samples.ids(texts).to(self.text_encoder.device))

    @torch.no_grad()
    def _states(self, ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.text_encoder(ids).last_hidden_state
        return states


class TextDenoiser(nn.Module):
    """A UNet alone: x_t `(B, C, h, w)`, t `(B,)`, states `(B, T, D)` to v."""

    def __init__(self, unet: MobileDiffusionUNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        v: torch.Tensor = self.unet(x, t, context).sample
        return v


class DenoiserStage:
    """The one turn of the denoiser."""

    def __init__(
        self, loop: Loop, config: DenoiserConfig, samples: Samples, schedule: Schedule
    ) -> None:
        self.loop, self.config, self.samples, self.schedule = loop, config, samples, schedule

    def turns(self) -> list[Turn]:
        return [Turn("denoiser", self.losses)]

    def losses(self, chance: Chance) -> Losses:
        clean, ids = self.samples.draw(chance, empty=self.config.empty_captions)
        noise = chance.normal(*clean.shape[1:])
        t = chance.integers(0, self.schedule.last + 1)
        denoiser = self.loop.networks["denoiser"]
        return {"velocity": velocity_loss(denoiser, self.schedule, clean, noise, t, ids)}
