"""A network without its weights, and where each weight lies."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.weights.network_classes import build_on_meta
from coreml_sd.models.weights.seeded import SeededFolder
from coreml_sd.models.weights.tensor_file import TensorFile
from coreml_sd.models.weights.tensor_names import is_harmless, renamed_attentions, spellings
from coreml_sd.models.weights.values import FileWeights, Weights

_SHOWN = 3  # names in an error


@dataclass(frozen=True)
class OpenNetwork:
    """A network as published, its parameters on `meta`, and where their values lie."""

    module: nn.Module
    weights: Weights


def open_network(folder: DiffusersFolder, part: str) -> OpenNetwork:
    """Open one network of a folder without reading a weight.

    Every parameter has its tensor in the files, of the same shape, and every tensor its parameter.

    Raises:
        UserError: the files are missing or damaged, or do not fit the network's config.
    """
    if isinstance(folder, SeededFolder):
        seeded = build_on_meta(folder.config(part), part)
        return OpenNetwork(seeded, folder.weights(part, seeded))
    files = [TensorFile(path) for path in folder.weight_files(part)]
    held = _by_name(files)
    module = _built(folder, part)
    places = _places(folder.path / part, module, held, len(files) == 1)
    return OpenNetwork(module, FileWeights(places))


def _built(folder: DiffusersFolder, part: str) -> nn.Module:
    try:
        return build_on_meta(folder.config(part), part)
    except UserError:
        raise
    except Exception as error:  # whatever a class says of a config that it cannot build
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{folder.path / part}/config.json: no network can be built from it ({reason})"
        ) from None


def _by_name(files: Iterable[TensorFile]) -> dict[str, TensorFile]:
    held: dict[str, TensorFile] = {}
    for file in files:
        for name in file.entries:
            if name in held:
                raise UserError(
                    f"{held[name].path} and {file.path.name} both hold {name}; keep one of them"
                )
            held[name] = file
    return held


def _places(
    folder: Path, module: nn.Module, held: Mapping[str, TensorFile], is_single: bool
) -> dict[str, tuple[TensorFile, str]]:
    """Parameter -> its file and its name there."""
    places, missing, taken = {}, [], set()
    renamed = renamed_attentions(module) if is_single else []
    for name, parameter in module.named_parameters(remove_duplicate=False):
        key = next((key for key in spellings(name, renamed) if key in held), None)
        if key is None:
            missing.append(name)
            continue
        shape = held[key].entries[key].shape
        if shape != tuple(parameter.shape):
            raise UserError(
                f"{held[key].path}: weights do not fit the config: {key} is "
                f"{_sides(shape)}, and config.json asks for {_sides(parameter.shape)}"
            )
        places[name] = (held[key], key)
        taken.add(key)
    unused = [key for key in held if key not in taken and not is_harmless(module, key)]
    if missing or unused:
        raise _misfit(folder, missing, unused)
    return places


def _misfit(folder: Path, missing: Collection[str], unused: Collection[str]) -> UserError:
    said = []
    if missing:
        said.append(f"lacks {_named(missing)}")
    if unused:
        said.append(f"has {_named(unused)} that no parameter takes")
    return UserError(
        f"{folder}: weights do not fit the config: {' and '.join(said)}; give the config.json that "
        "was saved with these weights"
    )


def _named(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more tensors"


def _sides(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "one number"
