"""Diffusers folders of a family's full size with seeded random fp16 weights."""

from __future__ import annotations

import json
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
FAMILIES = ("sd15",)


def write_folder(folder: Path, tokenizer: Path) -> Path:
    """Write Stable Diffusion 1.5 with random weights; `tokenizer` is a folder to copy."""
    import shutil

    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder.mkdir(parents=True)
    parts: dict[str, Any] = {
        "unet": lambda: UNet2DConditionModel(**_UNET),
        "vae": lambda: AutoencoderKL(**_VAE),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**_TEXT)),
    }
    for seed, (name, make) in enumerate(parts.items()):
        torch.manual_seed(seed)
        make().half().save_pretrained(folder / name)
    shutil.copytree(tokenizer, folder / "tokenizer")
    scheduler = {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
        "steps_offset": 1,
        "prediction_type": "epsilon",
    }
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler), "utf-8")
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.35.0"}
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder
