"""Find a model: the built-in demo, a diffusers folder, or a hub id (its cache respected)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from coreml_sd.errors import UserError
from coreml_sd.models.mobile_diffusion.presets import PRESETS

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent / "demo"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_CHECKPOINTS = (".safetensors", ".ckpt", ".pt", ".bin")


@dataclass(frozen=True)
class Source:
    """A model on this disk: its name, folder, and the hub commit it came from (if any)."""

    name: str
    folder: Path
    revision: str | None = None


def find_source(model: str, revision: str | None = None, variant: str | None = None) -> Source:
    """Locate `model`: `demo`, a preset, a folder, or a hub id such as `org/name`.

    A preset has random weights and the tokenizer of the demo.

    Args:
        revision: of a hub model.
        variant: of the weight files that are fetched from the hub.

    Raises:
        UserError: nothing of that name is found, or the hub cannot be reached.
    """
    if model == DEMO:
        return Source(DEMO, DEMO_FOLDER)
    if model in PRESETS:
        return Source(model, DEMO_FOLDER)
    try:
        folder = Path(model).expanduser()
        if folder.is_dir():
            return Source(folder.resolve().name, folder.resolve())
        if folder.is_file():
            raise UserError(_of_a_file(model, folder))
    except (OSError, RuntimeError) as error:  # a name too long, the home of nobody
        raise UserError(f"{model[:200]}: no such folder ({error})") from None
    if not _HUB_ID.fullmatch(model) or model.startswith((".", "~")):
        raise UserError(f"{model}: no such folder; give a diffusers folder, a hub id or `demo`")
    from coreml_sd.models.hub import fetch

    fetched = fetch(model, revision, variant)
    return Source(model, fetched, revision=fetched.name)


def _of_a_file(model: str, file: Path) -> str:
    """What to do with a file where a folder is wanted."""
    if file.suffix not in _CHECKPOINTS:
        return f"{model}: is a file; give a diffusers folder or a hub id"
    return (
        f"{model}: is a single file, which cannot be converted yet. Make a folder of it in Python: "
        f'pipe = diffusers.StableDiffusionPipeline.from_single_file("{model}"); '
        f'pipe.save_pretrained("{file.stem}") (StableDiffusionXLPipeline for XL); then give that '
        "folder"
    )
