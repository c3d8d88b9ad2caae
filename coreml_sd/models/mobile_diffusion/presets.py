"""The named configs `md` and `md-lite`, at 512x512 with the text encoder of CLIP ViT-L/14.

Targets of the paper (arXiv 2311.16567), of which only the first and the last two were read:
denoiser 386 M parameters (MD), recalled 182 G MACs (MD), 278 M and 153 G (MD-Lite); light decoder
9.8 M; about 520 M in all. Of the widths and layers that fit these, the ones below have the layers
that the paper's table shows for MD-Lite (3 behind each block of the way down, 2 on the way up) and
the widths that are recalled; MD has one layer more on the way up. docs/mobilediffusion.md has the
counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXT: dict[str, Any] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-05,
    "projection_dim": 768,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
# The paper does not tell its schedule; this is Stable Diffusion's, with the prediction that
# distillation wants.
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
_VAE: dict[str, Any] = {
    "_class_name": "MobileDiffusionVAE",
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 8,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "light_decoder": True,
    "decoder_layers_per_block": 1,
    "norm_num_groups": 32,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
_MODULE = "coreml_sd.models.mobile_diffusion"
INDEX: dict[str, Any] = {
    "_class_name": "MobileDiffusionPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": [f"{_MODULE}.unet", "MobileDiffusionUNet"],
    "vae": [f"{_MODULE}.vae", "MobileDiffusionVAE"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
}


def _unet(width: int, layers: list[int]) -> dict[str, Any]:
    return {
        "_class_name": "MobileDiffusionUNet",
        "sample_size": 64,
        "in_channels": 8,
        "out_channels": 8,
        "block_out_channels": [320, 640, width],
        "layers_per_block": 2,
        "inner_layers": layers,
        "cross_attention_dim": 768,
        "attention_head_dim": 64,
        "num_attention_heads": None,
        "norm_num_groups": 32,
        "transformers_in_middle": True,
        "decoupled_attention": True,
        "shared_key_value": True,
        "gate": "silu",
        "weighing": "relu",
        "feed_forward_expansion": 6,
        "separable_convolutions": True,
        "pruned_blocks": True,
    }


def _preset(unet: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        "model_index.json": INDEX,
        "unet/config.json": unet,
        "vae/config.json": _VAE,
        "text_encoder/config.json": _TEXT,
        "scheduler/scheduler_config.json": SCHEDULER,
    }


# The JSON files of a diffusers folder, by their paths in it.
PRESETS: dict[str, Mapping[str, dict[str, Any]]] = {
    "md": _preset(_unet(1024, [3, 2, 3])),
    "md-lite": _preset(_unet(896, [3, 2, 2])),
}
