"""What the tiny diffusers folders are made of: seeded random networks and their files."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig

WIDTH = 32


def write_tokenizer(folder: Path) -> int:
    """A CLIP-format vocabulary of single bytes and two merges; returns its size."""
    folder.mkdir(parents=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    merges = ["c a", "ca t</w>"]
    tokens = [*symbols, *(f"{s}</w>" for s in symbols), "ca", "cat</w>"]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}), "utf-8")
    return len(tokens)


def randomize(module: torch.nn.Module) -> torch.nn.Module:
    """Random norms too: fresh ones (1 and 0) would hide a swapped weight."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module


def text_config(vocabulary: int, width: int = WIDTH, **changes: Any) -> CLIPTextConfig:
    """Of a text encoder of two layers and two heads over `write_tokenizer`'s vocabulary."""
    settings = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }
    return CLIPTextConfig(**{**settings, **changes})


def tiny_vae(**changes: Any) -> AutoencoderKL:
    """Stable Diffusion's with two levels."""
    return AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=16,
        **changes,
    )


_INDEXED = {
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "safety_checker": (None, None),
    "feature_extractor": (None, None),
    "image_encoder": (None, None),
}


def write_configs(folder: Path, index: dict[str, Any], **scheduler: Any) -> None:
    """model_index.json with the parts that are there, and Stable Diffusion's scheduler with these
    settings."""
    usual = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
        "steps_offset": 1,
    }
    (folder / "scheduler").mkdir()
    config = folder / "scheduler/scheduler_config.json"
    config.write_text(json.dumps({**usual, **scheduler}), "utf-8")
    parts = {
        name: entry
        for name, entry in _INDEXED.items()
        if entry[0] is None or (folder / name).is_dir()
    }
    own = {"scheduler": ("diffusers", scheduler["_class_name"])}
    (folder / "model_index.json").write_text(json.dumps({**parts, **own, **index}), "utf-8")


def changed_folder(folder: Path, work: Path, relative: str, **values: Any) -> Path:
    """A copy of a model's folder; entries of one file have other values."""
    copy = Path(shutil.copytree(folder, work / "model"))
    change_json(copy / relative, **values)
    return copy


def name_scheduler(folder: Path, kind: str, **values: Any) -> None:
    """Give a model's folder a scheduler of another class, with these settings beside its own."""
    change_json(folder / "scheduler/scheduler_config.json", _class_name=kind, **values)
    change_json(folder / "model_index.json", scheduler=["diffusers", kind])


def change_json(path: Path, **values: Any) -> None:
    """Give entries of a file's top level other values."""
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")
