"""Tiny source networks with random weights, made from configs."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


def randomised(module: Any) -> Any:
    """Random affine parameters too: fresh norms (1 and 0) would hide a swapped weight."""
    generator = torch.Generator().manual_seed(1)
    for _, parameter in module.named_parameters():
        if parameter.ndim == 1:
            noise = 0.2 * torch.randn(parameter.shape, generator=generator)
            parameter.data.add_(noise)
    return module.eval()


SD1 = {
    "sample_size": 8,
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}


@pytest.fixture
def make_unet() -> Any:
    def make(**changes: Any) -> Any:
        torch.manual_seed(0)
        return randomised(UNet2DConditionModel(**{**SD1, **changes}))

    return make


@pytest.fixture
def make_vae() -> Any:
    def make(**changes: Any) -> Any:
        torch.manual_seed(0)
        config = {
            "block_out_channels": (16, 32, 32),
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
            "norm_num_groups": 8,
        }
        return randomised(AutoencoderKL(**{**config, **changes}))

    return make


@pytest.fixture
def make_text_encoder() -> Any:
    def make(projected: Any = False, **changes: Any) -> Any:
        torch.manual_seed(0)
        config = {
            "vocab_size": 49408,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 77,
            "hidden_act": "quick_gelu",
            "bos_token_id": 49406,
            "eos_token_id": 49407,
            "pad_token_id": 49407,
            "initializer_factor": 10.0,
        }
        kind = CLIPTextModelWithProjection if projected else CLIPTextModel
        return randomised(kind(CLIPTextConfig(**{**config, **changes})))

    return make
