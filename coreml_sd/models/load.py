"""Load one network of a diffusers folder in fp32, strictly: every weight present and used."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.models.diffusers_folder import DiffusersFolder


def load_text_encoder(folder: DiffusersFolder) -> nn.Module:
    """The CLIP text encoder of the folder."""
    from transformers import CLIPTextModel

    return _load(CLIPTextModel, folder, "text_encoder")


def load_unet(folder: DiffusersFolder) -> nn.Module:
    """The denoising UNet of the folder."""
    from diffusers import UNet2DConditionModel

    return _load(UNet2DConditionModel, folder, "unet")


def load_vae(folder: DiffusersFolder) -> nn.Module:
    """The VAE of the folder."""
    from diffusers import AutoencoderKL

    return _load(AutoencoderKL, folder, "vae")


def _load(kind: Any, folder: DiffusersFolder, part: str) -> nn.Module:
    """Load a network after its files were read and found whole.

    Raises:
        UserError: damaged files, NaN or inf, or weights that do not fit the config.
    """
    folder.check_weights(part)
    try:
        module, report = kind.from_pretrained(
            folder.path / part,
            variant=folder.variant(part),
            torch_dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder.path / part}: weights do not fit the config: {reason}") from None
    missing = sorted(report.get("missing_keys", ()))
    if missing or report.get("mismatched_keys"):
        first = missing[0] if missing else report["mismatched_keys"][0]
        raise UserError(f"{folder.path / part}: weights do not fit the config: lacks {first}")
    return cast(nn.Module, module.eval().requires_grad_(False))
