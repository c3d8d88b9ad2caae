"""Which family a single file is of, told from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from coreml_sd.errors import UserError
from coreml_sd.models.checkpoints.families import FAMILIES, SD2, CheckpointFamily

UNET, VAE = "model.diffusion_model.", "first_stage_model."
_FIRST = f"{UNET}input_blocks.0.0.weight"
GUIDANCE = f"{UNET}time_embed.cond_proj.weight"
_LATENT_CHANNELS = 4

# What a file is that has no UNet in the original layout, by what a name begins with or holds.
_OTHERS = (
    ("lora", "a LoRA: convert its base model, and give this file with --lora"),
    ("control_model.", "a ControlNet, which is no model by itself"),
    ("joint_blocks.", "a Stable Diffusion 3 model, which is not supported"),
    ("double_blocks.", "a Flux model, which is not supported"),
    (UNET, f"no whole model: it lacks {_FIRST}, or has it in another shape"),
    ("down_blocks.", "one network in the layout of diffusers: give its pipeline's folder"),
    ("encoder.down.", "a VAE, which is no model by itself"),
    ("text_model.", "a text encoder, which is no model by itself"),
)


def recognized(origin: str, shapes: Mapping[str, tuple[int, ...]]) -> CheckpointFamily:
    """The family of a file's tensors.

    Raises:
        UserError: it is none that can be converted; says what it is.
    """
    first = shapes.get(_FIRST)
    if first is None or len(first) != 4:
        raise UserError(f"{origin}: {_no_unet(shapes)}")
    if _any(shapes, "conditioner.embedders.0.model."):
        raise UserError(f"{origin}: an SDXL refiner, which cannot be converted yet")
    if first[1] != _LATENT_CHANNELS:
        raise UserError(
            f"{origin}: its UNet takes {first[1]} channels (an inpainting, depth or upscaling "
            "model), which cannot be converted yet"
        )
    return FAMILIES[_name(origin, shapes)]


def _name(origin: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    if _any(shapes, "conditioner.embedders.1.model."):
        return "sdxl"
    if _any(shapes, "cond_stage_model.model."):
        return "sd2"
    if _any(shapes, "cond_stage_model.transformer."):
        return "lcm" if GUIDANCE in shapes else "sd1"
    raise UserError(f"{origin}: has no text encoder; give a file of the whole model")


def notes(family: CheckpointFamily, names: Iterable[str], *, chosen: bool) -> tuple[str, ...]:
    """What was taken where a file leaves it open; `chosen`: the family was named."""
    told = []
    if family is SD2 and not chosen:
        told.append(
            "family sd2: taken for a model that predicts v in pictures of 768x768; name "
            "--family sd2-base for one of 512x512"
        )
    if _any(names, "model_ema."):
        told.append("averaged weights (model_ema) are left out, as diffusers does")
    return tuple(told)


def _no_unet(names: Iterable[str]) -> str:
    held = [*names]
    for mark, told in _OTHERS:
        if any(mark in name for name in held):
            return told
    return "no Stable Diffusion model: it has no tensor model.diffusion_model.input_blocks.0.0"


def _any(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)
