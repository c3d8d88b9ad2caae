"""Unpacks a single file into a diffusers folder in the cache, once."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from coreml_sd.errors import UserError
from coreml_sd.files.cache_folder import cache_folder
from coreml_sd.files.write_json import write_json
from coreml_sd.models.checkpoints.clip_tokenizer import write_clip_tokenizer
from coreml_sd.models.checkpoints.families import FAMILIES, CheckpointFamily
from coreml_sd.models.checkpoints.recognize import notes, recognized
from coreml_sd.models.folder.corrections import SCHEDULER_FILE
from coreml_sd.models.folder.diffusers_folder import INDEX_NAME
from coreml_sd.models.weights.tensor_file import TensorFile

_FORM = "1"  # of what is unpacked: another one is unpacked anew
_SPARE = 1.05  # of the file's size, which has to be free
_CLASSES = {
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
_WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
OnPart = Callable[[str], None]


@dataclass(frozen=True)
class Unpacked:
    """The folder of a single file's model, and notes on what was taken where the file is silent."""

    folder: Path
    notes: tuple[str, ...]


def unpacked(file: Path, family: str | None = None, on_part: OnPart = lambda _: None) -> Unpacked:
    """The folder of a single file's model, unpacked now where it is not there yet.

    Args:
        family: one of `FAMILIES`; told from the tensors where not given.
        on_part: called with the name of each network before it is written.

    Raises:
        UserError: no model that can be converted, tensors that do not fit, or no room for it.
    """
    opened = TensorFile(file)
    shapes = {name: entry.shape for name, entry in opened.entries.items()}
    chosen = _chosen(file, shapes, family)
    target = cache_folder("checkpoints") / f"{file.stem[:60]}-{_key(file, chosen)}"
    if not (target / INDEX_NAME).is_file():
        _unpack(file, chosen, target, on_part)
    return Unpacked(target, notes(chosen, shapes, chosen=family is not None))


def _unpack(file: Path, family: CheckpointFamily, target: Path, on_part: OnPart) -> None:
    """Write the folder under another name and give it its own when it is whole."""
    partial = target.with_name(f".partial-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _require_room(file, target.parent)
        with FileLock(target.with_suffix(".lock")):
            shutil.rmtree(partial, ignore_errors=True)  # of one that was killed
            if (target / INDEX_NAME).is_file():  # another process was first
                return
            try:
                _write(file, family, partial, on_part)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror})") from None


def _chosen(file: Path, shapes: dict[str, tuple[int, ...]], family: str | None) -> CheckpointFamily:
    if family is None:
        return recognized(str(file), shapes)
    if family not in FAMILIES:
        raise UserError(f"family {family}: choose from {', '.join(FAMILIES)}")
    return FAMILIES[family]


def _key(file: Path, family: CheckpointFamily) -> str:
    """Which file, as it is now, and what is made of it."""
    status = file.stat()
    told = f"{_FORM} {file.resolve()} {status.st_size} {status.st_mtime_ns} {family.name}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _require_room(file: Path, folder: Path) -> None:
    size, free = file.stat().st_size, shutil.disk_usage(folder).free
    if free < _SPARE * size:
        raise UserError(
            f"{file}: unpacking takes {size / 1e9:.1f} GB in {folder}, and {free / 1e9:.1f} GB are "
            "free; make room, or set COREML_SD_CACHE to another place"
        )


def _write(file: Path, family: CheckpointFamily, folder: Path, on_part: OnPart) -> None:
    from coreml_sd.models.checkpoints.lazy_tensor import lazy_tensors, write_tensors
    from coreml_sd.models.checkpoints.parts import parts

    folder.mkdir()
    for part in parts(str(file), lazy_tensors(file), family):
        on_part(part.name)
        target = folder / part.name
        target.mkdir()
        write_json(target / "config.json", part.config)
        name = f"{_WEIGHTS.get(part.name, 'model')}.safetensors"
        write_tensors(target / name, part.tensors)
    for number, text in enumerate(family.text):
        name = "tokenizer_2" if number else "tokenizer"
        write_clip_tokenizer(folder / name, text.padding)
    (folder / SCHEDULER_FILE).parent.mkdir()
    write_json(folder / SCHEDULER_FILE, dict(family.scheduler))
    write_json(folder / INDEX_NAME, _index(family))


def _index(family: CheckpointFamily) -> dict[str, Any]:
    encoders = ["text_encoder", "text_encoder_2"][: len(family.text)]
    tokenizers = ["tokenizer", "tokenizer_2"][: len(family.text)]
    return {
        "_class_name": family.pipeline,
        **family.index,
        **{name: _CLASSES[name] for name in (*encoders, "unet", "vae")},
        **{name: ["transformers", "CLIPTokenizer"] for name in tokenizers},
        "scheduler": ["diffusers", family.scheduler["_class_name"]],
    }
