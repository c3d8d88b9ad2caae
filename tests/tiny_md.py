"""A tiny MobileDiffusion folder with seeded random weights."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from coreml_sd.models.mobile_diffusion import MobileDiffusionUNet, MobileDiffusionVAE
from coreml_sd.models.mobile_diffusion.presets import INDEX
from tests.conftest import WIDTH, randomize, write_tokenizer

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
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
        )
    )
    randomize(text).save_pretrained(folder / "text_encoder")
    tiny_unet(**changes).save_pretrained(folder / "unet")
    tiny_vae().save_pretrained(folder / "vae")
    scheduler = {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction",
        "clip_sample": False,
        "steps_offset": 1,
    }
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler), "utf-8")
    (folder / "model_index.json").write_text(json.dumps(INDEX), "utf-8")
    return folder
