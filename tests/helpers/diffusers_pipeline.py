"""diffusers' own pipelines over a tiny model's folder."""

import warnings
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

_PARTS = {
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "tokenizer": CLIPTokenizer,
    "tokenizer_2": CLIPTokenizer,
    "unet": UNet2DConditionModel,
    "scheduler": DDIMScheduler,
}
_SD = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
_SDXL = {"add_watermarker": False}


def as_diffusers_opens(folder: Path, variant: str | None = None) -> Any:
    """The pipeline that diffusers chooses for a folder, with what it corrects, in fp32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return DiffusionPipeline.from_pretrained(
            folder,
            variant=variant,
            torch_dtype=torch.float32,
            use_safetensors=True,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
        )


def diffusers_pipeline(kind: Any, folder: Path) -> Any:
    """A pipeline of class `kind` with DDIM, without progress."""
    parts = {
        name: part.from_pretrained(folder / name)
        for name, part in _PARTS.items()
        if (folder / name).exists()
    }
    pipeline = kind(**parts, **(_SDXL if "text_encoder_2" in parts else _SD))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
