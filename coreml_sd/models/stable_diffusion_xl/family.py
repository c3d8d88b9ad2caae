"""Stable Diffusion XL base: two text encoders, a pooled prompt and sizes as further conditions."""

from __future__ import annotations

import dataclasses
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.models import networks
from coreml_sd.models.denoiser import TWO_TEXT_ENCODERS, size_numbers
from coreml_sd.models.find_model import Source
from coreml_sd.models.folder.component_classes import SD_CLASSES, require_classes
from coreml_sd.models.folder.corrections import scheduler_as_read
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.folder.network_configs import network_configs
from coreml_sd.models.folder.tokenizer_files import require_same_vocabulary, tokenizer_facts
from coreml_sd.models.pipeline import DiffusionModel, Family
from coreml_sd.models.stable_diffusion.family import check_text_to_image, pipeline_facts

_ADDED = "text_time"
_CLASSES = {
    **SD_CLASSES,
    "text_encoder_2": "CLIPTextModelWithProjection",
    "tokenizer_2": "CLIPTokenizer",
}


def describe(
    source: Source, folder: DiffusersFolder, size: tuple[int, int] | None, batch: int
) -> DiffusionModel:
    """Describe a Stable Diffusion XL folder at a picture size and UNet batch.

    Raises:
        UserError: a config is missing or holds something this family does not have (a refiner, an
            inpainting UNet), or the size is none the networks can make.
    """
    if not (folder.path / "text_encoder").is_dir():
        raise UserError(f"{folder.path}: has no first text encoder: refiners are not supported")
    require_classes(folder, _CLASSES)
    parts = ("unet", "vae", "text_encoder", "text_encoder_2")
    unet, vae, first, second = network_configs(folder, *parts)
    check_text_to_image(folder, unet, first["hidden_size"] + second["hidden_size"])
    scheduler = scheduler_as_read(folder)
    facts = pipeline_facts(
        FAMILY.name, folder, unet, vae, first, scheduler, TWO_TEXT_ENCODERS, size, batch
    )
    pooled = second["projection_dim"]
    _check_conditions(folder, unet, vae, pooled, len(size_numbers(facts.size)))
    length = second["max_position_embeddings"]
    if length != facts.max_tokens:
        raise UserError(
            f"{folder.path}: text encoders of {facts.max_tokens} and {length} tokens; "
            "they must have the same length"
        )
    require_same_vocabulary(folder)
    facts = dataclasses.replace(
        facts,
        tokenizer_2=tokenizer_facts(folder, length, "tokenizer_2"),
        zeros_for_empty_prompt=bool(folder.index.get("force_zeros_for_empty_prompt", True)),
    )
    components = (
        networks.penultimate_text_encoder(folder, first, second=False),
        networks.penultimate_text_encoder(folder, second, second=True),
        networks.unet_component(folder, unet, facts, pooled),
        networks.vae_decoder(folder, facts),
        networks.vae_encoder(folder, facts),
    )
    return DiffusionModel(source, folder, facts, components)


FAMILY = Family(
    name="stable-diffusion-xl",
    pipeline_classes=(
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
    ),
    describe=describe,
)


def _check_conditions(
    folder: DiffusersFolder, unet: dict[str, Any], vae: dict[str, Any], pooled: int, ids: int
) -> None:
    if folder.index.get("requires_aesthetics_score"):
        raise UserError(f"{folder.path}: takes an aesthetic score: refiners are not supported")
    if unet.get("addition_embed_type") != _ADDED:
        raise UserError(
            f"{folder.path}/unet: addition_embed_type={unet.get('addition_embed_type')!r}; "
            f"Stable Diffusion XL has {_ADDED!r}"
        )
    wanted = pooled + ids * int(unet.get("addition_time_embed_dim") or 0)
    if unet.get("projection_class_embeddings_input_dim") != wanted:
        raise UserError(
            f"{folder.path}/unet: projection_class_embeddings_input_dim="
            f"{unet.get('projection_class_embeddings_input_dim')}, but the pooled prompt and "
            f"{ids} numbers of the sizes need {wanted}"
        )
    if vae.get("latents_mean") or vae.get("latents_std"):
        raise UserError(f"{folder.path}/vae: latents_mean and latents_std are not supported")
