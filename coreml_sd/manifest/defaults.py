"""What is taken where a manifest says nothing: some were made by hand, or before a key was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import to_builtins

from coreml_sd.models.denoiser import ONE_TEXT_ENCODER, TWO_TEXT_ENCODERS, Denoiser

# Families of the manifests that do not tell their denoiser.
OLDER_FAMILIES = ("stable-diffusion", "stable-diffusion-xl", "mobile-diffusion")
_ADVICE: dict[str, Any] = {"guidance": 7.5, "steps": 20, "prompts": []}
_MODEL: dict[str, Any] = {"revision": None, "license": "", "author": ""}
_TOOL: dict[str, Any] = {"name": "", "version": "", "packages": {}}
_COMPONENT: dict[str, Any] = {
    "description": "", "seams": [], "weights": [], "source_bytes": 0, "splits": [], "parity": {}
}  # fmt: skip


def with_defaults(manifest: dict[str, Any]) -> dict[str, Any]:
    """A checked manifest with what generation takes where it says nothing."""
    pipeline = {"shift_factor": 0.0, **manifest["pipeline"]}
    if "tokenizer_2" in pipeline:
        pipeline.setdefault("zeros_for_empty_prompt", False)
    pipeline.setdefault("denoiser", to_builtins(older_denoiser(pipeline)))
    advice = {**_ADVICE, **pipeline.get("advice", {})}
    components = {}
    for name, entry in manifest["components"].items():
        files = [{"weight_bytes": 0, **file} for file in entry["files"]]
        components[name] = {**_COMPONENT, **entry, "files": files}
    return {
        "notes": [],
        **manifest,
        "tool": {**_TOOL, **manifest.get("tool", {})},
        "model": {**_MODEL, **manifest["model"]},
        "pipeline": {**pipeline, "advice": advice},
        "components": components,
    }


def older_denoiser(pipeline: Mapping[str, Any]) -> Denoiser:
    """That of a manifest that does not tell it: Stable Diffusion XL has two tokenizers."""
    return TWO_TEXT_ENCODERS if "tokenizer_2" in pipeline else ONE_TEXT_ENCODER
