"""A network without its weights, and where each weight lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.models.diffusers_folder import DiffusersFolder
from coreml_sd.models.load import network_class
from coreml_sd.models.tensor_file import TensorFile
from coreml_sd.models.weights import FileWeights

# transformers moved the text encoder's parameters up a level; files have either name.
_OPTIONAL_PREFIX = "text_model."


@dataclass(frozen=True)
class OpenNetwork:
    """A network as published, its parameters on `meta`, and where their values lie."""

    module: nn.Module
    weights: FileWeights


def open_network(folder: DiffusersFolder, part: str) -> OpenNetwork | None:
    """Open one network of a folder without reading a weight.

    None where the names or shapes in the files are not those of the network as it is defined
    today (an old layout, or a file that does not fit): diffusers' own loader knows what to do
    with the former and what to say of the latter.

    Raises:
        UserError: the files are missing or damaged.
    """
    files = [TensorFile(path) for path in folder.weight_files(part)]
    held = {name: file for file in files for name in file.entries}
    try:
        module = _build(folder.config(part), part)
    except UserError:
        raise
    except Exception:  # whatever a broken config makes of it, the loader says it better
        return None
    places = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        key = next((key for key in _spellings(name) if key in held), None)
        if key is None or held[key].entries[key].shape != tuple(parameter.shape):
            return None
        places[name] = (held[key], key)
    return OpenNetwork(module.eval().requires_grad_(False), FileWeights(places))


def _build(config: dict[str, Any], part: str) -> nn.Module:
    kind = network_class(part)
    with torch.device("meta"):
        if part.startswith("text_encoder"):
            from transformers import CLIPTextConfig

            # A config may name fp16, which only some of transformers' classes heed.
            text: nn.Module = kind(CLIPTextConfig.from_dict(config)).float()
            return text
        module: nn.Module = kind.from_config(config)
        return module


def _spellings(name: str) -> tuple[str, ...]:
    if name.startswith(_OPTIONAL_PREFIX):
        return name, name.removeprefix(_OPTIONAL_PREFIX)
    return name, _OPTIONAL_PREFIX + name
