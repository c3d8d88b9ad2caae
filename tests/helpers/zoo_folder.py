"""Runnable models made from the published folders in `tests/zoo`, whose weights were left out.

Every file of the published list is there: the weights that diffusers reads, with narrow networks
and seeded random values; other variants, with other values; and pointers in place of the rest.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.helpers.published_folders import CLIP_VOCABULARY, ZOO
from tests.helpers.tiny_folder import randomize

SIDE = 64  # pixels of the pictures that the networks are run for
_NARROWER = 8
_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{:064x}\nsize {}\n"
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
_OLD_VERSIONS = ("0.2.2", "0.6.0", "0.10.0.dev0")  # wrote the attention of VAEs under these names
_OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def write_zoo_folder(name: str, folder: Path) -> Path:
    """A published folder with narrow networks of random weights."""
    shutil.copytree(ZOO / name, folder, copy_function=shutil.copyfile)
    if not CLIP_VOCABULARY.is_dir():
        pytest.skip("CLIP's vocabulary is not here: scripts/clip_vocabulary")
    for tokenizer in folder.glob("tokenizer*"):
        for file in ("vocab.json", "merges.txt"):
            shutil.copyfile(CLIP_VOCABULARY / file, tokenizer / file)
    for size, relative in _listed(folder):
        listed = folder / relative
        if not listed.exists() and not relative.endswith("README.md"):
            listed.parent.mkdir(parents=True, exist_ok=True)
            listed.write_text(_POINTER.format(size, 1 << 30), "utf-8")
    for seed, part in enumerate(("text_encoder", "text_encoder_2", "unet", "vae")):
        if (folder / part).is_dir():
            _write_network(folder / part, part, seed)
    return folder


def _listed(folder: Path) -> Iterator[tuple[int, str]]:
    for line in (folder / "FILES.tsv").read_text("utf-8").splitlines():
        size, relative = line.split("\t")
        yield int(size), relative


def _write_network(folder: Path, part: str, seed: int) -> None:
    config = _narrow(part, json.loads((folder / "config.json").read_text("utf-8")))
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    names = [file.name for file in folder.glob("*.safetensors")]
    if not names:
        return
    torch.manual_seed(seed)
    network = randomize(_made(part, config))
    network.save_pretrained(folder / "saved")
    stem = _STEMS.get(part, "model")
    tensors = load_file(folder / "saved" / f"{stem}.safetensors")
    shutil.rmtree(folder / "saved")
    if part == "vae" and config["_diffusers_version"] in _OLD_VERSIONS:
        for new, old in _OLD_NAMES.items():
            tensors = {n.replace(f".{new}.", f".{old}."): t for n, t in tensors.items()}
    for name in names:
        other = 0.0 if name == f"{stem}.safetensors" else 0.5
        values = {n: (t + other).contiguous() for n, t in tensors.items()}
        save_file(values, folder / name, {"format": "pt"})


def _narrow(part: str, config: dict[str, Any]) -> dict[str, Any]:
    if part.startswith("text_encoder"):
        narrow = ("hidden_size", "intermediate_size", "projection_dim")
        cut = {key: config[key] // _NARROWER for key in narrow if key in config}
        return {**config, **cut, "num_hidden_layers": 2}
    cut = {"block_out_channels": [w // _NARROWER for w in config["block_out_channels"]]}
    for key in ("cross_attention_dim", "projection_class_embeddings_input_dim"):
        if isinstance(config.get(key), int):
            cut[key] = config[key] // _NARROWER
    if config.get("addition_time_embed_dim"):
        cut["addition_time_embed_dim"] = config["addition_time_embed_dim"] // _NARROWER
    if config.get("transformer_layers_per_block"):
        cut["transformer_layers_per_block"] = [1, 1, 2]
    return {**config, **cut, "layers_per_block": 1, "norm_num_groups": 8}


def _made(part: str, config: dict[str, Any]) -> torch.nn.Module:
    if part == "unet":
        return UNet2DConditionModel.from_config(config)
    if part == "vae":
        return AutoencoderKL.from_config(config)
    kind = CLIPTextModel if part == "text_encoder" else CLIPTextModelWithProjection
    return kind(CLIPTextConfig.from_dict(config)).float()
