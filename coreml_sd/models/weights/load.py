"""Load one network of a diffusers folder in fp32; every weight that it has must be there."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.folder.files import require_safe_folder
from coreml_sd.models.weights.network_classes import network_class
from coreml_sd.models.weights.placeholder_network import open_network
from coreml_sd.models.weights.seeded import SeededFolder
from coreml_sd.models.weights.tensor_names import is_harmless


def load_network(folder: DiffusersFolder, part: str) -> nn.Module:
    """A network of the folder by its name there: `text_encoder`, `text_encoder_2`, `unet`, `vae`.

    Raises:
        UserError: damaged files, NaN or inf, or weights that do not fit the config.
    """
    if isinstance(folder, SeededFolder):
        return folder.loaded(part)
    return _load(network_class(part, folder.config(part)), folder, part)


def _load(kind: Any, folder: DiffusersFolder, part: str) -> nn.Module:
    """Load a network after its files were read and found whole.

    Raises:
        UserError: damaged files, NaN or inf, or weights that do not fit the config.
    """
    require_safe_folder(folder.path)
    open_network(folder, part)  # the libraries reserve what the config asks for, then compare
    folder.check_weights(part)
    try:
        module, report = kind.from_pretrained(
            folder.path / part,
            variant=folder.variants[part],
            torch_dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder.path / part}: weights do not fit the config: {reason}") from None
    unfit = {
        "lacks": report.get("missing_keys", ()),
        "has another shape of": report.get("mismatched_keys", ()),
        "has, without a parameter that takes it,": [
            name for name in report.get("unexpected_keys", ()) if not is_harmless(module, name)
        ],
    }
    for what, names in unfit.items():
        if names:
            raise UserError(
                f"{folder.path / part}: weights do not fit the config: {what} {sorted(names)[0]}"
            )
    return cast(nn.Module, module.eval().requires_grad_(False))
