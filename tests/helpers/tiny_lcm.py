"""A tiny latent consistency model's folder with seeded random weights."""

import shutil
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from tests.helpers.tiny_folder import change_json, name_scheduler

GUIDANCE_WIDTH = 16


def write_lcm_pipeline(stable_diffusion: Path, folder: Path) -> Path:
    """The tiny Stable Diffusion with a UNet that is told the guidance."""
    shutil.copytree(stable_diffusion, folder, dirs_exist_ok=True)
    config = UNet2DConditionModel.load_config(folder / "unet")
    torch.manual_seed(3)
    unet = UNet2DConditionModel.from_config({**config, "time_cond_proj_dim": GUIDANCE_WIDTH})
    unet.save_pretrained(folder / "unet")
    name_scheduler(folder, "LCMScheduler")
    change_json(folder / "model_index.json", _class_name="LatentConsistencyModelPipeline")
    return folder
