"""The configs of a folder's networks, whole: what a file leaves out is the class's own default."""

from __future__ import annotations

from typing import Any

from coreml_sd.models.class_defaults import with_defaults
from coreml_sd.models.diffusers_folder import DiffusersFolder
from coreml_sd.models.part_classes import SD_CLASSES


def network_configs(folder: DiffusersFolder, *parts: str) -> tuple[dict[str, Any], ...]:
    """The configs of networks, with the defaults of their classes where they leave a key out.

    Raises:
        UserError: a file is missing, or no JSON object.
    """
    found = []
    for part in parts:
        config = folder.config(part)
        is_text = part.startswith("text_encoder")
        name = "CLIPTextConfig" if is_text else config.get("_class_name") or SD_CLASSES[part]
        config = with_defaults(config, name)
        widths = config.get("cross_attention_dim")
        if isinstance(widths, list) and len(set(widths)) == 1:  # one for each block
            config["cross_attention_dim"] = widths[0]
        found.append(config)
    return tuple(found)
