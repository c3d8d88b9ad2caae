"""Names of tensors in single files, as diffusers maps them to those of its folders."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

Tensors = dict[str, Any]


def unet_tensors(tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    """Those of the UNet by diffusers' names; averaged ones (`model_ema.`) are left out."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    mapped: Tensors = convert_ldm_unet_checkpoint(tensors, dict(config))
    return mapped


def vae_tensors(tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    """Those of the VAE by diffusers' names."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    mapped: Tensors = convert_ldm_vae_checkpoint(tensors, dict(config))
    return mapped


def open_clip_tensors(tensors: Tensors, prefix: str, width: int) -> Tensors:
    """Those of a text encoder that OpenCLIP laid out, by transformers' names."""
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    network = SimpleNamespace(config=SimpleNamespace(hidden_size=width))
    mapped: Tensors = convert_open_clip_checkpoint(network, tensors, prefix=prefix)
    return mapped
