"""A tiny Stable Diffusion XL folder with seeded random weights."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.conftest import randomize, write_tokenizer

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
    text = {
        "vocab_size": vocabulary,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": 2,
    }
    first = CLIPTextConfig(
        **text, hidden_size=WIDTHS[0], intermediate_size=64, hidden_act="quick_gelu"
    )
    second = CLIPTextConfig(
        **text,
        hidden_size=WIDTHS[1],
        intermediate_size=96,
        hidden_act="gelu",
        projection_dim=POOLED,
        pad_token_id=0,
    )
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
        "vae": tiny_vae(),
    }
    for name, module in parts.items():
        randomize(module).save_pretrained(folder / name)
    scheduler = {
        "_class_name": "EulerDiscreteScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "epsilon",
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "clip_sample": False,
        "set_alpha_to_one": False,
    }
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler), "utf-8")
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": "0.42.1",
        "force_zeros_for_empty_prompt": True,
    }
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder


def tiny_vae() -> AutoencoderKL:
    """SDXL's VAE has its scaling factor and asks for fp32."""
    return AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=16,
        scaling_factor=0.13025,
        force_upcast=True,
    )
