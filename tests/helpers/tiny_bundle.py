"""The smallest manifest that makes sense: one network, which reads tokens and does nothing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

TOKENIZER = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "max_tokens": 4}
PIPELINE: dict[str, Any] = {
    "family": "stable-diffusion",
    "prediction_type": "epsilon",
    "size": [16, 16],
    "latent_size": [8, 8],
    "latent_channels": 4,
    "vae_scale_factor": 2,
    "scaling_factor": 0.5,
    "shift_factor": 0.0,
    "batch": 2,
    "max_tokens": 4,
    "scheduler": {"_class_name": "DDIMScheduler"},
    "tokenizer": TOKENIZER,
    "advice": {"guidance": 3.0, "steps": 2, "scheduler": "ddim", "prompts": ["a cat"]},
}
MODEL = {"name": "tiny", "family": "stable-diffusion", "sha256": "0" * 64, "config_digest": "0"}
CONFIG = {"model": "tiny", "targets": ["tflite"], "tflite": {"android_profile": "cpu"}}


def manifest(**networks: str) -> dict[str, Any]:
    """What `write_manifest` takes; `networks` go from a component to its .tflite's path."""
    components = {
        name: {
            "inputs": [],
            "outputs": [],
            "files": [{"path": path, "target": "tflite", "inputs": [], "outputs": []}],
        }
        for name, path in (networks or {"text_encoder": "TextEncoder.tflite"}).items()
    }
    facts = {"pipeline": PIPELINE, "components": components, "config": CONFIG, "model": MODEL}
    return copy.deepcopy(facts)


def write_files(folder: Path) -> None:
    """What the manifest lists beside other networks."""
    for name, text in (("TextEncoder.tflite", "network"), ("vocab.json", "{}"), ("merges.txt", "")):
        (folder / name).write_text(text)
