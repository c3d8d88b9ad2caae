"""A tiny MobileDiffusion folder with seeded random weights."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModel

from coreml_sd.models.mobile_diffusion import MobileDiffusionUNet, MobileDiffusionVAE
from coreml_sd.models.mobile_diffusion.presets import INDEX
from tests.helpers.tiny_folder import (
    WIDTH,
    change_json,
    randomize,
    text_config,
    write_configs,
    write_tokenizer,
)

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


# Two levels, and one layer behind each residual block of the smaller map.
SHORT: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "inner_layers": (1, 1, 1),
    "layers_per_block": 1,
}
FEW_STEPS = {"unet_1_step": 1, "unet_8_steps": 8}


def tiny_unet(*, seed: int = 0, **changes: Any) -> MobileDiffusionUNet:
    """All switches on, but for `changes`."""
    torch.manual_seed(seed)
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


def write_few_step_pipeline(folder: Path) -> Path:
    """A short one with further UNets: one for a step, and one for 8 that is told the guidance."""
    write_md_pipeline(folder, **SHORT)
    change_json(
        folder / "scheduler/scheduler_config.json",
        timestep_spacing="trailing",
        set_alpha_to_one=True,
    )
    tiny_unet(seed=1, **SHORT).save_pretrained(folder / "unet_1_step")
    tiny_unet(seed=2, **SHORT, time_cond_proj_dim=16).save_pretrained(folder / "unet_8_steps")
    advice = {"guidance": 4.0, "steps": 8, "prompts": ["a cat"], "few_steps": FEW_STEPS}
    (folder / "coreml_sd.json").write_text(json.dumps(advice), "utf-8")
    return folder
