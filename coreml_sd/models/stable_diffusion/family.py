"""Stable Diffusion 1.x and 2.x: component specs from the configs of a diffusers folder."""

from __future__ import annotations

import math
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS
from coreml_sd.models import networks
from coreml_sd.models.denoiser import (
    ONE_TEXT_ENCODER,
    Condition,
    Denoiser,
    Guidance,
    GuidanceWay,
)
from coreml_sd.models.find_model import Source
from coreml_sd.models.folder.component_classes import SD_CLASSES, require_classes
from coreml_sd.models.folder.corrections import (
    corrected_sample_size,
    corrected_scheduler,
    scheduler_as_read,
)
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.folder.network_configs import network_configs
from coreml_sd.models.folder.tokenizer_files import tokenizer_facts
from coreml_sd.models.pipeline import (
    USUAL_ADVICE,
    DiffusionModel,
    Family,
    PipelineFacts,
    read_advice,
)

_NAME = "stable-diffusion"
_SCALING_FACTOR = 0.18215  # where a config says null


def describe(
    source: Source,
    folder: DiffusersFolder,
    size: tuple[int, int] | None,
    batch: int,
    *,
    family: str = _NAME,
    usual: tuple[float, int] = USUAL_ADVICE,
) -> DiffusionModel:
    """Describe a Stable Diffusion 1.x or 2.x folder at a picture size and UNet batch.

    Args:
        family: the name of one that has the same networks.
        usual: the guidance and steps that it is drawn with where its folder advises none.

    Raises:
        UserError: a config is missing or holds something this family does not have, or the size
            is none the networks can make.
    """
    require_classes(folder, SD_CLASSES)
    unet, vae, encoder = network_configs(folder, "unet", "vae", "text_encoder")
    check_text_to_image(folder, unet, encoder["hidden_size"])
    scheduler = corrected_scheduler(scheduler_as_read(folder))
    side = corrected_sample_size(unet)
    facts = pipeline_facts(
        family, folder, {**unet, "sample_size": side.value}, vae, encoder, scheduler.value,
        denoiser(unet), size, batch, usual,
    )  # fmt: skip
    components = (
        networks.text_encoder(folder, encoder),
        networks.unet_component(folder, unet, facts),
        networks.vae_decoder(folder, facts),
        networks.vae_encoder(folder, facts),
    )
    notes = scheduler.notes + (() if size else side.notes)
    return DiffusionModel(source, folder, facts, components, notes)


FAMILY = Family(
    name=_NAME,
    pipeline_classes=("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"),
    describe=describe,
)


def denoiser(
    unet: dict[str, Any], name: str = "unet", otherwise: GuidanceWay = "classifier-free"
) -> Denoiser:
    """A UNet that takes the states of one text encoder, and the guidance where it was distilled
    for that; `otherwise` is how it is guided where it was not."""
    conditions: dict[str, Condition] = {**ONE_TEXT_ENCODER.conditions}
    width = unet.get("time_cond_proj_dim")
    if width is None:
        return Denoiser(name, otherwise, conditions)
    return Denoiser(name, "embedded", {**conditions, "timestep_cond": Guidance(width)})


def check_text_to_image(
    folder: DiffusersFolder, unet: dict[str, Any], width: int, name: str = "unet"
) -> None:
    """Refuse a UNet that takes more than a latent, or text of another width.

    Raises:
        UserError: says which.
    """
    if unet["in_channels"] != unet["out_channels"]:
        raise UserError(
            f"{folder.path}/{name}: takes {unet['in_channels']} channels (an inpainting or "
            "depth model); only text-to-image models are supported"
        )
    context = unet["cross_attention_dim"]
    if isinstance(context, list):
        raise UserError(
            f"{folder.path}/{name}/config.json: cross_attention_dim {context}: a width for each "
            "block; only one width for all is supported"
        )
    if width != context:
        raise UserError(
            f"{folder.path}/{name}: text encoder width {width} and UNet context {context} differ"
        )


def pipeline_facts(
    family: str,
    folder: DiffusersFolder,
    unet: dict[str, Any],
    vae: dict[str, Any],
    text: dict[str, Any],
    scheduler: dict[str, Any],
    denoiser: Denoiser,
    size: tuple[int, int] | None,
    batch: int,
    usual: tuple[float, int] = USUAL_ADVICE,
) -> PipelineFacts:
    """What generation must know, from the configs of a folder with one CLIP tokenizer or more,
    each with the defaults of its class.

    Raises:
        UserError: a size that the networks cannot make, or an incomplete folder.
    """
    scale = 2 ** (len(vae["block_out_channels"]) - 1)
    size = size or _own_size(folder, unet.get("sample_size"), scale)
    _check_size(size, max(8, scale))
    _check_limits(folder, unet, vae, text, scale)
    return PipelineFacts(
        family=family,
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        size=size,
        latent_size=(size[0] // scale, size[1] // scale),
        latent_channels=unet["in_channels"],
        vae_scale_factor=scale,
        scaling_factor=vae.get("scaling_factor") or _SCALING_FACTOR,
        shift_factor=vae.get("shift_factor") or 0.0,
        batch=min(batch, denoiser.rows),
        max_tokens=text["max_position_embeddings"],
        scheduler=_finite(scheduler),
        tokenizer=tokenizer_facts(folder, text["max_position_embeddings"]),
        advice=read_advice(folder, scheduler, usual),
        denoiser=denoiser,
    )


def _own_size(folder: DiffusersFolder, sample_size: Any, scale: int) -> tuple[int, int]:
    """Height and width of the model's own pictures."""
    sides = [sample_size] * 2 if isinstance(sample_size, int) else sample_size
    if (
        not isinstance(sides, (list, tuple))
        or len(sides) != 2
        or not all(isinstance(side, int) and side > 0 for side in sides)
    ):
        raise UserError(
            f"{folder.path}/unet/config.json: sample_size {sample_size} tells no size of pictures; "
            "give one with --size"
        )
    return sides[0] * scale, sides[1] * scale


def _finite(scheduler: dict[str, Any]) -> dict[str, Any]:
    """Without what JSON cannot hold and the scheduler's own default supplies."""
    return {
        key: value
        for key, value in scheduler.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }


def _check_limits(
    folder: DiffusersFolder,
    unet: dict[str, Any],
    vae: dict[str, Any],
    text: dict[str, Any],
    scale: int,
) -> None:
    """What every reader of the bundle will hold against the same limits."""
    facts = (
        ("unet", "in_channels", unet["in_channels"], LIMITS.latent_channels),
        ("vae", "block_out_channels: pixels of a latent pixel", scale, LIMITS.vae_scale_factor),
        (
            "text_encoder",
            "max_position_embeddings",
            text["max_position_embeddings"],
            LIMITS.max_tokens,
        ),
    )
    for part, key, value, most in facts:
        if value > most:
            raise UserError(f"{folder.path}/{part}/config.json: {key} is {value}; at most {most}")


def _check_size(size: tuple[int, int], multiple: int) -> None:
    if max(size) > LIMITS.pixels:
        raise UserError(
            f"size {size[0]}x{size[1]}: pictures have at most {LIMITS.pixels} pixels a side; give "
            "another one with --size"
        )
    if all(side % multiple == 0 for side in size):
        return
    near = "x".join(str(max(multiple, round(side / multiple) * multiple)) for side in size)
    raise UserError(
        f"size {size[0]}x{size[1]}: this model makes sizes that are multiples of {multiple}; "
        f"the nearest is {near}"
    )
