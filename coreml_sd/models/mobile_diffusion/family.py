"""MobileDiffusion folders: component specs from the configs."""

from __future__ import annotations

import dataclasses
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.models import networks
from coreml_sd.models.find_model import Source
from coreml_sd.models.folder.component_classes import SD_CLASSES, require_classes
from coreml_sd.models.folder.corrections import corrected_scheduler, scheduler_as_read
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.folder.network_configs import network_configs
from coreml_sd.models.pipeline import DiffusionModel, Family
from coreml_sd.models.stable_diffusion.family import (
    check_text_to_image,
    denoiser,
    pipeline_facts,
)

_CLASSES = {"unet": "MobileDiffusionUNet", "vae": "MobileDiffusionVAE"}


def describe(
    source: Source, folder: DiffusersFolder, size: tuple[int, int] | None, batch: int
) -> DiffusionModel:
    """Describe a MobileDiffusion folder at a picture size and UNet batch.

    Raises:
        UserError: a config is missing or is of another kind, the UNet takes what no sampler here
            gives it, or the size is none the networks can make.
    """
    require_classes(folder, {**SD_CLASSES, **_CLASSES})
    unet, vae, text = network_configs(folder, "unet", "vae", "text_encoder")
    _check(folder, unet, vae)
    check_text_to_image(folder, unet, text["hidden_size"])
    scheduler = corrected_scheduler(scheduler_as_read(folder))
    facts = pipeline_facts(
        FAMILY.name, folder, unet, vae, text, scheduler.value, denoiser(unet), size, batch
    )
    components = (
        networks.text_encoder(folder, text),
        dataclasses.replace(
            networks.unet_component(folder, unet, facts), form="mobile_diffusion_unet"
        ),
        networks.vae_decoder(folder, facts),
        networks.vae_encoder(folder, facts),
    )
    return DiffusionModel(source, folder, facts, components, scheduler.notes)


FAMILY = Family(
    name="mobile-diffusion",
    pipeline_classes=("MobileDiffusionPipeline",),
    describe=describe,
)


def _check(folder: DiffusersFolder, unet: dict[str, Any], vae: dict[str, Any]) -> None:
    if unet.get("step_embedding"):
        raise UserError(
            f"{folder.path}/unet: step_embedding={unet['step_embedding']} is for distilled models "
            "that are told where a step leads, which cannot be converted yet"
        )
    if unet["in_channels"] != vae["latent_channels"]:
        raise UserError(
            f"{folder.path}: the UNet takes {unet['in_channels']} channels and the VAE makes "
            f"{vae['latent_channels']}"
        )
