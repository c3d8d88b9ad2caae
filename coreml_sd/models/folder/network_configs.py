"""The configs of a folder's networks, whole: what a file leaves out is the class's own default."""

from __future__ import annotations

from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS
from coreml_sd.models.folder.class_defaults import with_defaults
from coreml_sd.models.folder.component_classes import SD_CLASSES
from coreml_sd.models.folder.config_limits import require_limits
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder

_COUNT, _COUNTS, _NUMBER = (
    "a whole number above 0",
    "a list of those",
    f"a number up to {LIMITS.factor:.0f} or null",
)
# What is read of a config before its network is built, which checks the rest.
_READ = {
    "unet": {"in_channels": _COUNT, "out_channels": _COUNT},
    "vae": {
        "block_out_channels": _COUNTS,
        "latent_channels": _COUNT,
        "scaling_factor": _NUMBER,
        "shift_factor": _NUMBER,
    },
    "text_encoder": {
        "hidden_size": _COUNT,
        "max_position_embeddings": _COUNT,
        "projection_dim": _COUNT,
        "vocab_size": _COUNT,
    },
}


def network_configs(folder: DiffusersFolder, *parts: str) -> tuple[dict[str, Any], ...]:
    """The configs of networks, with the defaults of their classes where they leave a key out.

    Raises:
        UserError: a file is missing, is no JSON object, or holds what no network can have or
            more than the limits allow.
    """
    found = []
    for part in parts:
        config = folder.config(part)
        kind = _kind(part)
        name = config.get("_class_name") or SD_CLASSES[kind]
        name = "CLIPTextConfig" if kind == "text_encoder" else name
        file = f"{folder.path}/{part}/config.json"
        if not isinstance(name, str):
            raise UserError(f"{file}: _class_name is {name!r}, not a name")
        config = with_defaults(config, name)
        require_limits(file, config)
        widths = config.get("cross_attention_dim")
        if isinstance(widths, list) and len({*map(str, widths)}) == 1:  # one for each block
            config["cross_attention_dim"] = widths[0]
        for key, wanted in _READ[kind].items():
            if not _is(wanted, config.get(key)):
                raise UserError(f"{file}: {key} is {config.get(key)!r}, not {wanted}")
        found.append(config)
    return tuple(found)


def _kind(part: str) -> str:
    """What a folder holds, by its name: there may be a second text encoder, and further UNets."""
    return next((kind for kind in _READ if part.startswith(kind)), part)


def _is(kind: str, value: Any) -> bool:
    if kind == _COUNTS:
        each = isinstance(value, (list, tuple)) and all(_is(_COUNT, item) for item in value)
        return each and len(value) > 0
    if isinstance(value, bool):
        return False
    if kind == _NUMBER:
        return value is None or (isinstance(value, (int, float)) and abs(value) <= LIMITS.factor)
    return isinstance(value, int) and value > 0
