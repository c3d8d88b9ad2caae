"""The networks that a config asks for, new or as a stage before left them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from coreml_sd.models.mobile_diffusion import presets
from coreml_sd.models.mobile_diffusion.unet import MobileDiffusionUNet
from coreml_sd.models.mobile_diffusion.vae import MobileDiffusionVAE
from training.mobile_diffusion.config import NetworkConfig
from training.mobile_diffusion.stages.denoiser import Denoiser

# That of the random models, but beginning at the last timestep: a sampler of one step sees nothing
# but noise.
SCHEDULER: Mapping[str, Any] = {
    **presets.SCHEDULER,
    "set_alpha_to_one": True,
    "timestep_spacing": "trailing",
}


def new_vae(config: NetworkConfig, *, light: bool) -> MobileDiffusionVAE:
    """A VAE with the whole decoder, or with the light one."""
    vae: MobileDiffusionVAE = MobileDiffusionVAE(**{**config.vae, "light_decoder": light})
    return vae


def new_denoiser(config: NetworkConfig, tokenizer: CLIPTokenizer) -> Denoiser:
    """With softmax attention. The ids of start, end and padding are the tokenizer's."""
    text = CLIPTextConfig(
        **{
            "vocab_size": len(tokenizer),
            "max_position_embeddings": tokenizer.model_max_length,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "hidden_act": "quick_gelu",
            **config.text_encoder,
        }
    )
    unet = MobileDiffusionUNet(**{**config.unet, "weighing": "softmax"})
    return Denoiser(unet, CLIPTextModel(text))


def saved_denoiser(folder: Path) -> Denoiser:
    """That of a stage's folder with averaged weights."""
    unet = MobileDiffusionUNet.from_pretrained(folder / "unet")
    return Denoiser(unet, CLIPTextModel.from_pretrained(folder / "text_encoder"))


def save_denoiser(denoiser: Denoiser, folder: Path) -> None:
    """What `saved_denoiser` reads."""
    denoiser.unet.save_pretrained(folder / "unet")
    denoiser.text_encoder.save_pretrained(folder / "text_encoder")
