"""A tiny MobileDiffusion folder with seeded random weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModel

from coreml_sd.models.mobile_diffusion import MobileDiffusionUNet, MobileDiffusionVAE
from coreml_sd.models.mobile_diffusion.presets import INDEX
from tests.helpers.tiny_folder import WIDTH, randomize, text_config, write_configs, write_tokenizer

TINY: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (32, 32, 64),
    "inner_layers": (2, 1, 1),
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 16,
    "norm_num_groups": 8,
}
# Every switch of the UNet as Stable Diffusion has it.
SWITCHED_BACK: dict[str, Any] = {
    "transformers_in_middle": False,
    "decoupled_attention": False,
    "shared_key_value": False,
    "gate": "gelu",
    "weighing": "softmax",
    "feed_forward_expansion": 8,
    "separable_convolutions": False,
    "pruned_blocks": False,
}


def tiny_unet(**changes: Any) -> MobileDiffusionUNet:
    """All switches on, but for `changes`."""
    torch.manual_seed(0)
    return randomize(MobileDiffusionUNet(**{**TINY, **changes})).eval()


def tiny_vae(**changes: Any) -> MobileDiffusionVAE:
    """8 latent channels, light decoder, two levels."""
    torch.manual_seed(0)
    config = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4}
    return randomize(MobileDiffusionVAE(**{**config, "sample_size": 16, **changes})).eval()


def write_md_pipeline(folder: Path, **changes: Any) -> Path:
    """A folder as `save_pretrained` writes it; `changes` are the UNet's."""
    torch.manual_seed(0)
    vocabulary = write_tokenizer(folder / "tokenizer")
    randomize(CLIPTextModel(text_config(vocabulary))).save_pretrained(folder / "text_encoder")
    tiny_unet(**changes).save_pretrained(folder / "unet")
    tiny_vae().save_pretrained(folder / "vae")
    write_configs(folder, INDEX, _class_name="DDIMScheduler", prediction_type="v_prediction")
    return folder
