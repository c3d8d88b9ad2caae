"""Models with a UNet as short as can be, where kinds of layers count and not their number."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from tests.helpers.tiny_folder import randomize

# One level with a transformer, and nothing in the middle.
SHORT: dict[str, Any] = {
    "block_out_channels": (64,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "mid_block_type": None,
    "up_block_types": ("UpBlock2D",),
    "attention_head_dim": 4,
}


def with_unet(folder: Path, target: Path, **changes: Any) -> Path:
    """The model of a folder with another UNet: settings that are not in `changes` stay."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("unet"))
    config = UNet2DConditionModel.load_config(folder / "unet")
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config({**config, **changes})
    randomize(unet).save_pretrained(target / "unet")
    return target
