"""MobileDiffusion folders: component specs from the configs."""

from __future__ import annotations

import dataclasses
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.models import networks
from coreml_sd.models.denoiser import FewSteps
from coreml_sd.models.find_model import Source
from coreml_sd.models.folder.component_classes import SD_CLASSES, require_class, require_classes
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
    further = _for_few_steps(folder, unet, vae, text)
    facts = dataclasses.replace(facts, few_steps=tuple(few for few, _ in further) or None)
    unets = [
        networks.unet_component(folder, unet, facts),
        *(networks.unet_component(folder, config, facts, few=few) for few, config in further),
    ]
    components = (
        networks.text_encoder(folder, text),
        *(dataclasses.replace(each, form="mobile_diffusion_unet") for each in unets),
        networks.vae_decoder(folder, facts),
        networks.vae_encoder(folder, facts),
    )
    return DiffusionModel(source, folder, facts, components, scheduler.notes)


FAMILY = Family(
    name="mobile-diffusion",
    pipeline_classes=("MobileDiffusionPipeline",),
    describe=describe,
)


def _for_few_steps(
    folder: DiffusersFolder, usual: dict[str, Any], vae: dict[str, Any], text: dict[str, Any]
) -> list[tuple[FewSteps, dict[str, Any]]]:
    """UNets that were distilled for few steps, each with its config. One that is not told the
    guidance was distilled at one."""
    found = []
    for name, steps in folder.few_step_unets.items():
        (unet,) = network_configs(folder, name)
        require_class(folder, name, _CLASSES["unet"])
        _check(folder, unet, vae, name)
        check_text_to_image(folder, unet, text["hidden_size"], name)
        if unet["in_channels"] != usual["in_channels"]:
            raise UserError(f"{folder.path}/{name}: not the latent channels of the usual UNet")
        found.append((FewSteps(steps, denoiser(unet, name, otherwise="none")), unet))
    return found


def _check(
    folder: DiffusersFolder, unet: dict[str, Any], vae: dict[str, Any], name: str = "unet"
) -> None:
    if unet.get("step_embedding"):
        raise UserError(
            f"{folder.path}/{name}: step_embedding={unet['step_embedding']} is for distilled "
            "models that are told where a step leads, which cannot be converted yet"
        )
    if unet["in_channels"] != vae["latent_channels"]:
        raise UserError(
            f"{folder.path}: the UNet takes {unet['in_channels']} channels and the VAE makes "
            f"{vae['latent_channels']}"
        )
