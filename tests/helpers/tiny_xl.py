"""A tiny Stable Diffusion XL folder with seeded random weights."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from tests.helpers.tiny_folder import (
    randomize,
    text_config,
    tiny_vae,
    write_configs,
    write_tokenizer,
)

WIDTHS = (32, 48)
POOLED = 40
_ID_CHANNELS = 8


def write_xl_pipeline(folder: Path) -> Path:
    """SDXL's shape: a level without attention, then 1 and 2 layers for each transformer; heads per
    level; linear projections; a second text encoder with GELU and a projection."""
    torch.manual_seed(0)
    vocabulary = write_tokenizer(folder / "tokenizer")
    shutil.copytree(folder / "tokenizer", folder / "tokenizer_2")
    settings = {"model_max_length": 77, "pad_token": "!"}
    (folder / "tokenizer_2/tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    both = {"num_hidden_layers": 3, "eos_token_id": 2}
    first = text_config(vocabulary, WIDTHS[0], **both, hidden_act="quick_gelu")
    more = {"hidden_act": "gelu", "projection_dim": POOLED, "pad_token_id": 0}
    second = text_config(vocabulary, WIDTHS[1], **both, **more)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        cross_attention_dim=sum(WIDTHS),
        attention_head_dim=(2, 4, 8),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=_ID_CHANNELS,
        projection_class_embeddings_input_dim=POOLED + 6 * _ID_CHANNELS,
        norm_num_groups=8,
    )
    parts = {
        "text_encoder": CLIPTextModel(first),
        "text_encoder_2": CLIPTextModelWithProjection(second),
        "unet": unet,
        "vae": tiny_xl_vae(),
    }
    for name, module in parts.items():
        randomize(module).save_pretrained(folder / name)
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": "0.42.1",
        "force_zeros_for_empty_prompt": True,
    }
    write_configs(
        folder,
        index,
        _class_name="EulerDiscreteScheduler",
        prediction_type="epsilon",
        timestep_spacing="leading",
        set_alpha_to_one=False,
    )
    return folder


def tiny_xl_vae() -> AutoencoderKL:
    """SDXL's VAE has its scaling factor and asks for fp32."""
    return tiny_vae(scaling_factor=0.13025, force_upcast=True)
