"""Find a model: the built-in demo, a diffusers folder, a single file, or a hub id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from coreml_sd.errors import UserError
from coreml_sd.models.mobile_diffusion.presets import PRESETS

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent / "demo"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SINGLE_FILE = ".safetensors"
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Source:
    """A model on this disk: its name, folder, the hub commit it came from (if any), and notes on
    how it was found."""

    name: str
    folder: Path
    revision: str | None = None
    notes: tuple[str, ...] = ()


def find_source(
    model: str,
    revision: str | None = None,
    variant: str | None = None,
    family: str | None = None,
) -> Source:
    """Locate `model`: `demo`, a preset, a folder, a single file, or a hub id such as `org/name`.

    A preset has random weights and the tokenizer of the demo. A single file is unpacked into a
    folder in the cache.

    Args:
        revision: of a hub model.
        variant: of the weight files that are fetched from the hub.
        family: of a single file, where its tensors are not to tell it.

    Raises:
        UserError: nothing of that name is found, it is no model, or the hub cannot be reached.
    """
    if family is not None and Path(model).suffix != _SINGLE_FILE:
        raise UserError(f"family {family}: {model} is no single file, and says its family itself")
    if model == DEMO:
        return Source(DEMO, DEMO_FOLDER)
    if model in PRESETS:
        return Source(model, DEMO_FOLDER)
    try:
        folder = Path(model).expanduser()
        if folder.is_dir():
            return Source(folder.resolve().name, folder.resolve())
        if folder.is_file():
            return _of_a_file(model, folder.resolve(), family)
    except (OSError, RuntimeError) as error:  # a name too long, the home of nobody
        raise UserError(f"{model[:200]}: no such folder ({error})") from None
    if not _HUB_ID.fullmatch(model) or model.startswith((".", "~")):
        raise UserError(f"{model}: no such folder; give a diffusers folder, a hub id or `demo`")
    from coreml_sd.models.hub import fetch

    fetched = fetch(model, revision, variant)
    return Source(model, fetched, revision=fetched.name)


def is_single_file(model: str) -> bool:
    """Whether `model` is a file of weights that would be unpacked."""
    path = Path(model)
    return path.suffix == _SINGLE_FILE and path.expanduser().is_file()


def _of_a_file(model: str, file: Path, family: str | None) -> Source:
    if file.suffix == _SINGLE_FILE:
        from coreml_sd.models.checkpoints.unpack import unpacked

        found = unpacked(file, family)
        return Source(file.stem, found.folder, notes=found.notes)
    if file.suffix in _PICKLES:
        raise UserError(
            f"{model}: a pickle, which can run any program when it is opened, so it is not. Where "
            "you trust it, make safetensors of it: `torch.load` its `state_dict`, and "
            "`safetensors.torch.save_file` that"
        )
    raise UserError(f"{model}: is a file; give a .safetensors file, a diffusers folder or a hub id")
