"""Tiny models as single files in the original layout, by a map of names that is the tests' own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

KINDS = ("sd1", "lcm", "sd2", "sd2-base", "sdxl")
Tensors = dict[str, torch.Tensor]
_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_BOTH = ("weight", "bias")
_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "time_embedding.cond_proj": "time_embed.cond_proj",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def networks(kind: str) -> dict[str, Any]:
    """The tiny networks of a kind by the names of their folders."""
    torch.manual_seed(0)
    is_first = kind in ("sd1", "lcm")
    attention, plain = "CrossAttnDownBlock2D", "DownBlock2D"
    down = (plain, attention) if kind == "sdxl" else (attention, plain)
    unet: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (64, 128),
        "down_block_types": down,
        "up_block_types": tuple(name.replace("Down", "Up") for name in down[::-1]),
        "cross_attention_dim": 64 + 128 if kind == "sdxl" else 64,
        "attention_head_dim": 8 if is_first else [1, 2],
        "use_linear_projection": not is_first,
    }
    if kind == "lcm":
        unet["time_cond_proj_dim"] = 32
    if kind == "sd2":
        unet["upcast_attention"] = True
    if kind == "sdxl":
        unet |= {
            "transformer_layers_per_block": [1, 2],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 6 * 256 + 64,
        }
    vae = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=2,
        sample_size=16,
    )
    act = "quick_gelu" if is_first or kind == "sdxl" else "gelu"
    made = {
        "unet": UNet2DConditionModel(**unet),
        "vae": vae,
        "text_encoder": CLIPTextModel(_text(act)),
    }
    if kind == "sdxl":
        made["text_encoder_2"] = CLIPTextModelWithProjection(_text("gelu", width=128))
    return made


def _text(act: str, width: int = 64) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        projection_dim=64,
        hidden_act=act,
        bos_token_id=0,
        eos_token_id=2,
    )


def tensors(kind: str, held: dict[str, Any]) -> Tensors:
    """All of a file, by their names in it."""
    named = _unet(held["unet"].state_dict(), len(held["unet"].config.block_out_channels))
    named |= _vae(held["vae"].state_dict(), len(held["vae"].config.block_out_channels))
    text = held["text_encoder"]
    if kind == "sdxl":
        named |= _clip(text, "conditioner.embedders.0.transformer.")
        named |= _open_clip(held["text_encoder_2"], "conditioner.embedders.1.model.", 0)
    elif kind.startswith("sd2"):
        named |= _open_clip(text, "cond_stage_model.model.", 1)
    else:
        named |= _clip(text, "cond_stage_model.transformer.")
    named["alphas_cumprod"] = torch.ones(1000)
    return {name: value.contiguous().half() for name, value in named.items()}


def write(kind: str, folder: Path) -> Path:
    """A file of a kind."""
    path = folder / f"{kind}.safetensors"
    save_file(tensors(kind, networks(kind)), path)
    return path


def _unet(held: Tensors, levels: int) -> Tensors:
    named: Tensors = {}

    def both(old: str, new: str) -> None:
        for leaf in _BOTH:
            if f"{old}.{leaf}" in held:
                named[f"{_UNET}{new}.{leaf}"] = held[f"{old}.{leaf}"]

    def resnet(old: str, new: str) -> None:
        for before, after in _RESNET.items():
            both(f"{old}.{before}", f"{new}.{after}")

    def attention(old: str, new: str) -> bool:
        found = [name for name in held if name.startswith(f"{old}.")]
        for name in found:
            named[f"{_UNET}{new}{name.removeprefix(old)}"] = held[name]
        return bool(found)

    for old, new in _TOP.items():
        both(old, new)
    number = 1
    for level in range(levels):
        for block in range(2):
            resnet(f"down_blocks.{level}.resnets.{block}", f"input_blocks.{number}.0")
            attention(f"down_blocks.{level}.attentions.{block}", f"input_blocks.{number}.1")
            number += 1
        if level < levels - 1:
            both(f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{number}.0.op")
            number += 1
    resnet("mid_block.resnets.0", "middle_block.0")
    attention("mid_block.attentions.0", "middle_block.1")
    resnet("mid_block.resnets.1", "middle_block.2")
    for number in range(3 * levels):
        level, block = divmod(number, 3)
        resnet(f"up_blocks.{level}.resnets.{block}", f"output_blocks.{number}.0")
        has = attention(f"up_blocks.{level}.attentions.{block}", f"output_blocks.{number}.1")
        if block == 2 and level < levels - 1:
            place = f"output_blocks.{number}.{2 if has else 1}.conv"
            both(f"up_blocks.{level}.upsamplers.0.conv", place)
    return named


def _vae(held: Tensors, levels: int) -> Tensors:
    named = {}
    for name, value in held.items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", new)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d)\.", lambda m: f"up_blocks.{levels - 1 - int(m[1])}.", new)
        new = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", r"up.\1.block.\2", new)
        new = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", r"up.\1.upsample", new)
        middle = re.sub(r"mid_block\.attentions\.0\.(to_)?", "mid.attn_1.", new)
        if middle != new:
            new = middle.replace("group_norm", "norm").replace("out.0", "proj_out")
            value = value[:, :, None, None] if value.ndim == 2 else value
        named[f"{_VAE}{new}"] = value
    return named


def _clip(text: Any, prefix: str) -> Tensors:
    held = {n.removeprefix("text_model."): v for n, v in text.state_dict().items()}
    return {f"{prefix}text_model.{name}": value for name, value in held.items()}


def _open_clip(text: Any, prefix: str, unused: int) -> Tensors:
    """With `unused` more layers than are run, and what no network of ours has."""
    held = {n.removeprefix("text_model."): v for n, v in text.state_dict().items()}
    named = {
        "token_embedding.weight": held["embeddings.token_embedding.weight"],
        "positional_embedding": held["embeddings.position_embedding.weight"],
        "logit_scale": torch.tensor(1.0),
        "text_projection": held.get("text_projection.weight", torch.eye(64)).T,
    }
    layers = text.config.num_hidden_layers
    for number in range(layers + unused):
        old = f"encoder.layers.{min(number, layers - 1)}"
        new = f"transformer.resblocks.{number}"
        for leaf in _BOTH:
            rows = [held[f"{old}.self_attn.{name}_proj.{leaf}"] for name in "qkv"]
            named[f"{new}.attn.in_proj_{leaf}"] = torch.cat(rows)
            named[f"{new}.attn.out_proj.{leaf}"] = held[f"{old}.self_attn.out_proj.{leaf}"]
            named[f"{new}.ln_1.{leaf}"] = held[f"{old}.layer_norm1.{leaf}"]
            named[f"{new}.ln_2.{leaf}"] = held[f"{old}.layer_norm2.{leaf}"]
            named[f"{new}.mlp.c_fc.{leaf}"] = held[f"{old}.mlp.fc1.{leaf}"]
            named[f"{new}.mlp.c_proj.{leaf}"] = held[f"{old}.mlp.fc2.{leaf}"]
    for leaf in _BOTH:
        named[f"ln_final.{leaf}"] = held[f"final_layer_norm.{leaf}"]
    return {f"{prefix}{name}": value for name, value in named.items()}
