"""Diffusers folders of a family with seeded random fp16 weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coreml_sd.models.find_model import DEMO_FOLDER
from scripts.bench.families import NETWORKS, Networks, narrow

_SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}


def random_folder(work: Path, family: str = "sd15") -> Path:
    """A folder in `work` with a family's shapes and the demo's tokenizer."""
    return write_folder(work / "model", DEMO_FOLDER / "tokenizer", family)


def write_folder(
    folder: Path, tokenizer: Path, family: str = "sd15", *, small: bool = False
) -> Path:
    """Write a model of a family with random weights, at full size or with narrow networks;
    `tokenizer` is a folder to copy."""
    import torch

    networks = narrow(NETWORKS[family]) if small else NETWORKS[family]
    folder.mkdir(parents=True)
    for seed, (name, make) in enumerate(_parts(networks).items()):
        torch.manual_seed(seed)
        torch.set_default_dtype(torch.float16)  # twice as much memory otherwise
        try:
            make().save_pretrained(folder / name, max_shard_size="10GB")
        finally:
            torch.set_default_dtype(torch.float32)
    shutil.copytree(tokenizer, folder / "tokenizer")
    if networks.text_2 is not None:
        shutil.copytree(tokenizer, folder / "tokenizer_2")
    (folder / "scheduler").mkdir()
    scheduler = {**_SCHEDULER, **networks.scheduler}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler), "utf-8")
    (folder / "model_index.json").write_text(json.dumps(_index(networks, scheduler)), "utf-8")
    return folder


def _index(networks: Networks, scheduler: dict[str, Any]) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "scheduler": ("diffusers", scheduler["_class_name"]),
        "text_encoder": ("transformers", "CLIPTextModel"),
        "tokenizer": ("transformers", "CLIPTokenizer"),
        "unet": ("diffusers", "UNet2DConditionModel"),
        "vae": ("diffusers", "AutoencoderKL"),
    }
    if networks.text_2 is not None:
        parts["text_encoder_2"] = ("transformers", "CLIPTextModelWithProjection")
        parts["tokenizer_2"] = ("transformers", "CLIPTokenizer")
    absent = dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder"), (None, None))
    return {"_class_name": networks.pipeline, "_diffusers_version": "0.35.0", **parts, **absent}


def _parts(networks: Networks) -> dict[str, Callable[[], Any]]:
    """What makes each network."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    parts: dict[str, Callable[[], Any]] = {
        "unet": lambda: UNet2DConditionModel(**networks.unet),
        "vae": lambda: AutoencoderKL(**networks.vae),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**networks.text)),
    }
    second = networks.text_2
    if second is not None:
        parts["text_encoder_2"] = lambda: CLIPTextModelWithProjection(CLIPTextConfig(**second))
    return parts
