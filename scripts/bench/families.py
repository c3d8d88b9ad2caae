"""What the networks of each family are at full size, and a narrow form of them for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Networks:
    """Configs in the words of diffusers and transformers; `text_2` where there is a second encoder,
    `scheduler` what differs from Stable Diffusion 1.5's."""

    pipeline: str
    unet: Config
    vae: Config
    text: Config
    text_2: Config | None = None
    scheduler: Config = field(default_factory=dict)


_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
_UNET_21 = {
    **_UNET,
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
_UNET_XL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
_TEXT_21 = {
    **_TEXT,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
_TEXT_2 = {
    **_TEXT,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
NETWORKS = {
    "sd15": Networks("StableDiffusionPipeline", _UNET, _VAE, _TEXT),
    "sd21": Networks(
        "StableDiffusionPipeline",
        _UNET_21,
        {**_VAE, "sample_size": 768},
        _TEXT_21,
        scheduler={"prediction_type": "v_prediction"},
    ),
    "sdxl": Networks(
        "StableDiffusionXLPipeline",
        _UNET_XL,
        {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025},
        _TEXT,
        _TEXT_2,
    ),
}
FAMILIES = tuple(NETWORKS)

_WIDTH = 32


def narrow(networks: Networks) -> Networks:
    """The same blocks with few channels, one layer each, at a latent of 8x8."""
    levels = len(networks.unet["block_out_channels"])
    encoders = 1 if networks.text_2 is None else 2
    unet = {
        **networks.unet,
        "sample_size": 8,
        "block_out_channels": (_WIDTH,) * levels,
        "layers_per_block": 1,
        "cross_attention_dim": encoders * _WIDTH,
        "attention_head_dim": 2,
    }
    if encoders == 2:
        unet["transformer_layers_per_block"] = 1
        sizes = 6 * networks.unet["addition_time_embed_dim"]
        unet["projection_class_embeddings_input_dim"] = _WIDTH + sizes
    vae = {
        **networks.vae,
        "block_out_channels": (_WIDTH,) * 4,
        "layers_per_block": 1,
        "sample_size": 64,
    }
    return dataclasses.replace(
        networks,
        unet=unet,
        vae=vae,
        text=_narrow_text(networks.text),
        text_2=networks.text_2 and _narrow_text(networks.text_2),
    )


def _narrow_text(text: Config) -> Config:
    sizes = {"hidden_size": _WIDTH, "intermediate_size": _WIDTH, "projection_dim": _WIDTH}
    return {**text, **sizes, "num_hidden_layers": 2, "num_attention_heads": 2}
