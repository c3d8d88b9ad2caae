"""Writes a finished training as a diffusers folder in fp16."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from transformers import CLIPTokenizer

from coreml_sd.models.folder.few_step_unets import ADVICE_NAME, FEW_STEPS_KEY
from coreml_sd.models.mobile_diffusion import MobileDiffusionPipeline
from coreml_sd.models.mobile_diffusion.unet import MobileDiffusionUNet
from coreml_sd.models.mobile_diffusion.vae import MobileDiffusionVAE
from training.mobile_diffusion import networks

_ADVICE = {"guidance": 3.0, "steps": 20}


def export(
    target: Path,
    stages: dict[str, Path],
    few_steps: dict[int, Path],
    tokenizer: CLIPTokenizer,
    scaling_factor: float,
) -> None:
    """Write all but the model card, which stays as it is, and the advice in coreml_sd.json.

    Args:
        stages: the folders with averaged weights of the stages `decoder` and `relu`.
        few_steps: of UNets for few steps, by the most that each draws with.
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
    names = {f"unet_{n}_step" if n == 1 else f"unet_{n}_steps": n for n in sorted(few_steps)}
    for name, steps in names.items():
        unet = MobileDiffusionUNet.from_pretrained(few_steps[steps]).to(torch.float16)
        unet.save_pretrained(partial / name)
    card, advice = target / "README.md", target / ADVICE_NAME
    if card.exists():
        shutil.copyfile(card, partial / card.name)
    told = json.loads(advice.read_text("utf-8")) if advice.exists() else _ADVICE
    text = json.dumps({**told, FEW_STEPS_KEY: names}, indent=2)
    (partial / ADVICE_NAME).write_text(f"{text}\n", "utf-8")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
