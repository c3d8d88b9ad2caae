"""diffusers' own pipelines over a tiny model's folder."""

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
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
