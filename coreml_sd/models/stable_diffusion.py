"""Stable Diffusion 1.x and 2.x: component specs from the configs of a diffusers folder."""

from __future__ import annotations

import math
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.models import networks
from coreml_sd.models.diffusers_folder import DiffusersFolder
from coreml_sd.models.pipeline import DiffusionModel, Family, PipelineFacts, read_advice
from coreml_sd.models.source import Source
from coreml_sd.models.tokenizer_files import tokenizer_facts


def describe(
    source: Source, folder: DiffusersFolder, size: tuple[int, int] | None, batch: int
) -> DiffusionModel:
    """Describe a Stable Diffusion 1.x or 2.x folder at a picture size and UNet batch.

    Raises:
        UserError: a config is missing or holds something this family does not have, or the size
            is none the networks can make.
    """
    unet, vae, text = (folder.config(part) for part in ("unet", "vae", "text_encoder"))
    check_text_to_image(folder, unet, text["hidden_size"])
    facts = pipeline_facts(FAMILY.name, folder, unet, vae, text, size, batch)
    components = (
        networks.text_encoder(folder, text),
        networks.unet_component(folder, unet, facts),
        networks.vae_decoder(folder, facts),
        networks.vae_encoder(folder, facts),
    )
    return DiffusionModel(source, folder, facts, components)


FAMILY = Family(
    name="stable-diffusion",
    pipeline_classes=("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"),
    describe=describe,
)


def check_text_to_image(folder: DiffusersFolder, unet: dict[str, Any], width: int) -> None:
    """Refuse a UNet that takes more than a latent, or text of another width.

    Raises:
        UserError: says which.
    """
    if unet.get("in_channels", 4) != unet.get("out_channels", 4):
        raise UserError(
            f"{folder.path}/unet: takes {unet['in_channels']} channels (an inpainting or "
            "depth model); only text-to-image models are supported"
        )
    context = unet.get("cross_attention_dim")
    if width != context:
        raise UserError(
            f"{folder.path}: text encoder width {width} and UNet context {context} differ"
        )


def pipeline_facts(
    family: str,
    folder: DiffusersFolder,
    unet: dict[str, Any],
    vae: dict[str, Any],
    text: dict[str, Any],
    size: tuple[int, int] | None,
    batch: int,
) -> PipelineFacts:
    """What generation must know, from the configs of a folder with one CLIP tokenizer or more.

    Raises:
        UserError: a size that the networks cannot make, or an incomplete folder.
    """
    scheduler = folder.json_file("scheduler/scheduler_config.json")
    scale = 2 ** (len(vae["block_out_channels"]) - 1)
    sample_size = unet.get("sample_size") or 64
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    size = size or (height * scale, width * scale)
    _check_size(size, max(8, scale))
    return PipelineFacts(
        family=family,
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        size=size,
        latent_size=(size[0] // scale, size[1] // scale),
        latent_channels=unet["in_channels"],
        vae_scale_factor=scale,
        scaling_factor=vae.get("scaling_factor") or 0.18215,
        shift_factor=vae.get("shift_factor") or 0.0,
        batch=batch,
        max_tokens=text.get("max_position_embeddings", 77),
        scheduler=_finite(scheduler),
        tokenizer=tokenizer_facts(folder, text.get("max_position_embeddings", 77)),
        advice=read_advice(folder, scheduler),
    )


def _finite(scheduler: dict[str, Any]) -> dict[str, Any]:
    """Without what JSON cannot hold and the scheduler's own default supplies."""
    return {
        key: value
        for key, value in scheduler.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }


def _check_size(size: tuple[int, int], multiple: int) -> None:
    if all(side % multiple == 0 for side in size):
        return
    near = "x".join(str(max(multiple, round(side / multiple) * multiple)) for side in size)
    raise UserError(
        f"size {size[0]}x{size[1]}: this model makes sizes that are multiples of {multiple}; "
        f"the nearest is {near}"
    )
