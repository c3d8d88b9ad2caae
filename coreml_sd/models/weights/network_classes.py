"""The class of a network, and the network that a config defines, without values."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from coreml_sd.models.own_classes import own_class


def network_class(part: str, config: dict[str, Any]) -> Any:
    """The class of a network: the one that its config names where it is ours, else the one that
    diffusers or transformers has for it."""
    if own := own_class(config.get("_class_name")):
        return own
    if part == "text_encoder":
        from transformers import CLIPTextModel

        return CLIPTextModel
    if part == "text_encoder_2":
        from transformers import CLIPTextModelWithProjection

        return CLIPTextModelWithProjection
    from diffusers import AutoencoderKL, UNet2DConditionModel

    return {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part]


def build_on_meta(config: dict[str, Any], part: str) -> nn.Module:
    """The network that a config defines, without values, in eval mode."""
    kind = network_class(part, config)
    with torch.device("meta"):
        if part.startswith("text_encoder"):
            from transformers import CLIPTextConfig

            # A config may name fp16, which only some of transformers' classes heed.
            module: nn.Module = kind(CLIPTextConfig.from_dict(config)).float()
        else:
            module = kind.from_config(config)
    return module.eval().requires_grad_(False)
