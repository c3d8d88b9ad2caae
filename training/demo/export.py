"""Write the trained networks as a diffusers folder in fp16."""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline
from torch import nn
from transformers import CLIPTokenizer

from .networks import SCHEDULER, new_text_encoder, new_unet, new_vae


def load_averaged(folder: Path, tokenizer: CLIPTokenizer) -> tuple[AutoencoderKL, nn.ModuleDict]:
    """The averaged weights of the newest checkpoints; fresh networks where there are none."""
    torch.manual_seed(0)
    vae = nn.ModuleDict({"vae": new_vae()})
    denoiser = nn.ModuleDict({"unet": new_unet(), "text_encoder": new_text_encoder(len(tokenizer))})
    newest = folder / ("decoder.pt" if (folder / "decoder.pt").exists() else "vae.pt")
    for modules, checkpoint in ((vae, newest), (denoiser, folder / "denoiser.pt")):
        if checkpoint.exists():
            modules.load_state_dict(torch.load(checkpoint, weights_only=True)["ema"])
    return vae["vae"].eval(), denoiser.eval()


def export(
    folder: Path,
    vae: AutoencoderKL,
    denoiser: nn.ModuleDict,
    tokenizer: CLIPTokenizer,
    words: Path,
    scaling_factor: float,
) -> None:
    """Write everything but the model card and coreml_sd.json, which stay as they are.

    `words` is the folder with the tokenizer's vocab.json and merges.txt, which go in as well.
    """
    vae.register_to_config(scaling_factor=scaling_factor)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        unet=denoiser["unet"],
        text_encoder=denoiser["text_encoder"],
        tokenizer=tokenizer,
        scheduler=DPMSolverMultistepScheduler.from_config(SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16)
    for part in folder.glob("*/"):
        shutil.rmtree(part)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(words / name, folder / "tokenizer" / name)
