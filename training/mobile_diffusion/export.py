"""Writes a finished training as a diffusers folder in fp16."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from transformers import CLIPTokenizer

from coreml_sd.models.mobile_diffusion import MobileDiffusionPipeline
from coreml_sd.models.mobile_diffusion.unet import MobileDiffusionUNet
from coreml_sd.models.mobile_diffusion.vae import MobileDiffusionVAE
from training.mobile_diffusion import networks

# Folder of a UNet for fewer steps -> the stage that it comes from.
FEW_STEPS = {"unet_8_steps": "steps", "unet_1_step": "one_step"}


def export(
    target: Path, stages: dict[str, Path], tokenizer: CLIPTokenizer, scaling_factor: float
) -> None:
    """Write all but the model card and coreml_sd.json, which stay as they are.

    Args:
        stages: the folders with averaged weights: `decoder` and `relu`; `steps` and `one_step`
            where they are there.
    """
    vae = MobileDiffusionVAE.from_pretrained(stages["decoder"])
    vae.register_to_config(scaling_factor=scaling_factor)
    denoiser = networks.saved_denoiser(stages["relu"])
    pipeline = MobileDiffusionPipeline(
        vae=vae,
        unet=denoiser.unet,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler.from_config(dict(networks.SCHEDULER)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial, safe_serialization=True)
    for folder, stage in FEW_STEPS.items():
        if stage in stages:
            unet = MobileDiffusionUNet.from_pretrained(stages[stage]).to(torch.float16)
            unet.save_pretrained(partial / folder)
    for kept in ("README.md", "coreml_sd.json"):
        if (target / kept).exists():
            shutil.copyfile(target / kept, partial / kept)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
