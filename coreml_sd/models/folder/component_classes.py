"""The class of each network and tokenizer, as the folder's own files name it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.models.folder.diffusers_folder import INDEX_NAME, DiffusersFolder

SD_CLASSES = {
    "text_encoder": "CLIPTextModel",
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "tokenizer": "CLIPTokenizer",
}
_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
# A text encoder says twice what it is. Any of these is read as the class that the index names.
_TEXT_TYPES = ("clip_text_model", "clip")
_TEXT_ARCHITECTURES = ("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel")


def require_classes(folder: DiffusersFolder, wanted: Mapping[str, str]) -> None:
    """Refuse a folder with a part of another class than its family has.

    diffusers builds what model_index.json names, from the part's config: both must say the same.

    Raises:
        UserError: names the file, the class in it and the class that is supported.
    """
    for part, class_name in wanted.items():
        _require_in_index(folder, part, class_name)
        if part.startswith("tokenizer"):
            continue
        if part.startswith("text_encoder"):
            _require_clip(folder, part, folder.json_file(f"{part}/config.json"))
        else:
            require_class(folder, part, class_name)


def require_class(folder: DiffusersFolder, part: str, class_name: str) -> None:
    """Refuse a network whose config names another class.

    Raises:
        UserError: names the file, the class in it and the class that is supported.
    """
    config = folder.json_file(f"{part}/config.json")
    if config.get("_class_name", class_name) != class_name:
        raise _other(folder, f"{part}/config.json", config["_class_name"], class_name)


def _require_in_index(folder: DiffusersFolder, part: str, class_name: str) -> None:
    named = folder.indexed_class(part)
    if named is None:
        raise UserError(
            f"{folder.path / INDEX_NAME}: names no {part}; give a complete diffusers folder, with "
            f'"{part}": ["{_library(part)}", "{class_name}"]'
        )
    allowed = _TOKENIZERS if class_name in _TOKENIZERS else (class_name,)
    if named not in allowed:
        raise _other(folder, f"{INDEX_NAME}: {part}", named, class_name)


def _require_clip(folder: DiffusersFolder, part: str, config: dict[str, Any]) -> None:
    kind = config.get("model_type", _TEXT_TYPES[0])
    if kind not in _TEXT_TYPES:
        raise _other(folder, f"{part}/config.json: model_type", kind, _TEXT_TYPES[0])
    named = config.get("architectures") or []
    for name in named if isinstance(named, list) else [named]:
        if name not in _TEXT_ARCHITECTURES:
            raise _other(folder, f"{part}/config.json", name, _TEXT_ARCHITECTURES[0])


def _library(part: str) -> str:
    return "transformers" if part.startswith(("text_encoder", "tokenizer")) else "diffusers"


def _other(folder: DiffusersFolder, place: str, found: Any, wanted: str) -> UserError:
    return UserError(
        f"{folder.path}/{place} is {found}; only {wanted} is supported: give a model that has one"
    )
