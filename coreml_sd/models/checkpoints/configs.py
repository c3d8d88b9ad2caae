"""Configs of a single file's networks, read off the shapes of its tensors.

Widths, depths and channels are in the shapes; what is not is the family's. Where tensors are
missing that every network has, these functions raise KeyError or IndexError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from coreml_sd.files.limits import LIMITS
from coreml_sd.models.checkpoints.families import CheckpointFamily, TextEncoderFamily
from coreml_sd.models.checkpoints.recognize import UNET, VAE

Shapes = Mapping[str, tuple[int, ...]]
_HEAD = 64  # channels, where a family does not count heads


def unet_config(shapes: Shapes, family: CheckpointFamily) -> dict[str, Any]:
    """Of `UNet2DConditionModel`, from tensors that begin with `model.diffusion_model.`."""
    held = _below(shapes, UNET)
    levels = _levels(held)
    widths = [width for width, _, _ in levels]
    depths = [depth for _, _, depth in levels]
    middle = _count(held, r"middle_block\.1\.transformer_blocks\.(\d+)\.")
    keys = [n for n in held if n.endswith("attn2.to_k.weight")]
    linear = any(len(held[n]) == 2 for n in held if n.endswith("proj_in.weight"))
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": family.side // 8,
        "in_channels": held["input_blocks.0.0.weight"][1],
        "out_channels": held["out.2.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": levels[0][1],
        "down_block_types": ["CrossAttnDownBlock2D" if d else "DownBlock2D" for d in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if d else "UpBlock2D" for d in depths[::-1]],
        "cross_attention_dim": held[keys[0]][1] if keys else 0,
        "attention_head_dim": family.heads or [max(1, width // _HEAD) for width in widths],
        "use_linear_projection": linear,
        **family.unet,
    }
    if max(depths, default=0) > 1 or middle > 1:
        config["transformer_layers_per_block"] = [max(1, depth) for depth in depths]
    if "label_emb.0.0.weight" in held:
        pooled = len(family.text) > 1
        config["addition_embed_type"] = "text_time" if pooled else None
        config["projection_class_embeddings_input_dim"] = held["label_emb.0.0.weight"][1]
        config["addition_time_embed_dim"] = 256
    if "time_embed.cond_proj.weight" in held:
        config["time_cond_proj_dim"] = held["time_embed.cond_proj.weight"][1]
    return config


def _levels(held: Shapes) -> list[tuple[int, int, int]]:
    """Of each level of the way down: width, residual blocks, layers of each transformer."""
    levels: list[tuple[int, int, int]] = []
    width, blocks, depth = held["input_blocks.0.0.weight"][0], 0, 0
    for index in range(1, _count(held, r"input_blocks\.(\d+)\.")):
        if f"input_blocks.{index}.0.op.weight" in held:
            levels.append((width, blocks, depth))
            blocks, depth = 0, 0
            continue
        width = held.get(f"input_blocks.{index}.0.out_layers.3.weight", (width,))[0]
        blocks += 1
        depth = _count(held, rf"input_blocks\.{index}\.1\.transformer_blocks\.(\d+)\.")
    return [*levels, (width, blocks, depth)]


def vae_config(shapes: Shapes, family: CheckpointFamily) -> dict[str, Any]:
    """Of `AutoencoderKL`, from tensors that begin with `first_stage_model.`."""
    held = _below(shapes, VAE)
    levels = _count(held, r"encoder\.down\.(\d+)\.")
    widths = [
        held.get(f"encoder.down.{level}.block.0.conv1.weight", (0,))[0] for level in range(levels)
    ]
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": family.side,
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": _count(held, r"encoder\.down\.0\.block\.(\d+)\."),
        "latent_channels": held.get("post_quant_conv.weight", (4, 4))[1],
        "scaling_factor": 0.18215,
        **family.vae,
    }


def text_config(shapes: Shapes, text: TextEncoderFamily, *, projected: bool) -> dict[str, Any]:
    """Of a CLIP text encoder; `projected` where its pooled output goes through a projection."""
    held = _below(shapes, text.prefix)
    if text.open_clip:
        tokens, positions = held["token_embedding.weight"], held["positional_embedding"]
        layers = _count(held, r"transformer\.resblocks\.(\d+)\.")
        wide = held.get("transformer.resblocks.0.mlp.c_fc.weight", (0,))[0]
        projection = held.get("text_projection", tokens)[1]
    else:
        held = _below(held, "text_model.") or held
        tokens = held["embeddings.token_embedding.weight"]
        positions = held["embeddings.position_embedding.weight"]
        layers = _count(held, r"encoder\.layers\.(\d+)\.")
        wide = held.get("encoder.layers.0.mlp.fc1.weight", (0,))[0]
        projection = tokens[1]
    vocabulary, width = tokens
    kind = "CLIPTextModelWithProjection" if projected else "CLIPTextModel"
    return {
        "architectures": [kind],
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": wide,
        "num_hidden_layers": layers - text.unused_layers,
        "num_attention_heads": max(1, width // _HEAD),
        "max_position_embeddings": positions[0],
        "projection_dim": projection,
        "hidden_act": text.act,
        "layer_norm_eps": 1e-5,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def _below(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    """Tensors whose names begin with a prefix, without it."""
    return {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}


def _count(names: Shapes, pattern: str) -> int:
    """One more than the largest number that a pattern finds at the beginning of a name.

    Raises:
        ValueError: more than a network can have.
    """
    found = (re.match(pattern, name) for name in names)
    count = max((int(match[1]) + 1 for match in found if match), default=0)
    if count > LIMITS.layers:
        raise ValueError(f"{count} blocks")
    return count
