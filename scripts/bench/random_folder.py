"""Diffusers folders of a family's full size with seeded random fp16 weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
_TEXT_2 = {
    **_TEXT,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
_UNET_XL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}
FAMILIES = ("sd15", "sdxl")


def write_folder(folder: Path, tokenizer: Path, family: str = "sd15") -> Path:
    """Write Stable Diffusion 1.5 or XL with random weights; `tokenizer` is a folder to copy."""
    folder.mkdir(parents=True)
    pipeline, parts = _parts(family)
    for seed, (name, make) in enumerate(parts.items()):
        torch.manual_seed(seed)
        torch.set_default_dtype(torch.float16)  # twice as much memory otherwise
        try:
            make().save_pretrained(folder / name, max_shard_size="10GB")
        finally:
            torch.set_default_dtype(torch.float32)
    shutil.copytree(tokenizer, folder / "tokenizer")
    if "text_encoder_2" in parts:
        shutil.copytree(tokenizer, folder / "tokenizer_2")
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(_SCHEDULER), "utf-8")
    index = {"_class_name": pipeline, "_diffusers_version": "0.35.0"}
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder


def _parts(family: str) -> tuple[str, dict[str, Callable[[], Any]]]:
    """The pipeline's class, and what makes each network."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    text = {"text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**_TEXT))}
    if family == "sd15":
        return "StableDiffusionPipeline", {
            "unet": lambda: UNet2DConditionModel(**_UNET),
            "vae": lambda: AutoencoderKL(**_VAE),
            **text,
        }
    return "StableDiffusionXLPipeline", {
        "unet": lambda: UNet2DConditionModel(**_UNET_XL),
        "vae": lambda: AutoencoderKL(**{**_VAE, "sample_size": 1024}, scaling_factor=0.13025),
        **text,
        "text_encoder_2": lambda: CLIPTextModelWithProjection(CLIPTextConfig(**_TEXT_2)),
    }
