"""Stable Diffusion 1.x and 2.x: component specs from the configs of a diffusers folder."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from coreml_sd.errors import UserError
from coreml_sd.models.component import Arrays, ComponentSpec, TensorSpec
from coreml_sd.models.diffusers_folder import DiffusersFolder
from coreml_sd.models.pipeline import DiffusionModel, Family, PipelineFacts, read_advice
from coreml_sd.models.source import Source
from coreml_sd.models.tokenizer_files import tokenizer_facts

if TYPE_CHECKING:
    from torch import nn

    from coreml_sd.models.skeleton import OpenNetwork

_MAX_TIMESTEP = 1000


def describe(
    source: Source, folder: DiffusersFolder, size: tuple[int, int] | None, batch: int
) -> DiffusionModel:
    """Describe a Stable Diffusion 1.x or 2.x folder at a picture size and UNet batch.

    Raises:
        UserError: a config is missing or holds something this family does not have, or the size
            is none the networks can make.
    """
    unet, vae, text = (folder.config(part) for part in ("unet", "vae", "text_encoder"))
    _check_configs(folder, unet, text)
    facts = _facts(folder, unet, vae, text, size, batch)
    components = (
        _text_encoder(folder, text),
        _unet(folder, unet, facts),
        _vae_decoder(folder, facts),
        _vae_encoder(folder, facts),
    )
    return DiffusionModel(source, folder, facts, components)


FAMILY = Family(
    name="stable-diffusion",
    pipeline_classes=("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"),
    describe=describe,
)


def _check_configs(folder: DiffusersFolder, unet: dict[str, Any], text: dict[str, Any]) -> None:
    if unet.get("in_channels", 4) != unet.get("out_channels", 4):
        raise UserError(
            f"{folder.path}/unet: takes {unet['in_channels']} channels (an inpainting or "
            "depth model); only text-to-image models are supported"
        )
    width, context = text.get("hidden_size"), unet.get("cross_attention_dim")
    if width != context:
        raise UserError(
            f"{folder.path}: text encoder width {width} and UNet context {context} differ"
        )


def _facts(
    folder: DiffusersFolder,
    unet: dict[str, Any],
    vae: dict[str, Any],
    text: dict[str, Any],
    size: tuple[int, int] | None,
    batch: int,
) -> PipelineFacts:
    scheduler = folder.json_file("scheduler/scheduler_config.json")
    scale = 2 ** (len(vae["block_out_channels"]) - 1)
    sample_size = unet.get("sample_size") or 64
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    size = size or (height * scale, width * scale)
    _check_size(size, max(8, scale))
    return PipelineFacts(
        family=FAMILY.name,
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
        advice=read_advice(folder),
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


def _text_encoder(folder: DiffusersFolder, text: dict[str, Any]) -> ComponentSpec:
    width, length = text["hidden_size"], text.get("max_position_embeddings", 77)
    return ComponentSpec(
        name="text_encoder",
        file_name="TextEncoder",
        description="CLIP text encoder: tokens of a prompt to the embeddings that guide the UNet.",
        inputs=(
            TensorSpec("input_ids", (1, length), "float32", "Token ids, padded to the full length"),
        ),
        outputs=(
            TensorSpec("last_hidden_state", (1, length, width), "float32", "One embedding a token"),
            TensorSpec("pooled_outputs", (1, width), "float32", "The embedding at the end token"),
        ),
        load=partial(_load, "text_encoder", folder),
        open=partial(_open, "text_encoder", folder),
        published=partial(_published, "text_encoder"),
        sample_inputs=partial(_sample_tokens, length, text.get("vocab_size", 49408), text),
    )


def _unet(folder: DiffusersFolder, unet: dict[str, Any], facts: PipelineFacts) -> ComponentSpec:
    batch, channels = facts.batch, facts.latent_channels
    latent = (batch, channels, *facts.latent_size)
    context = (batch, unet["cross_attention_dim"], 1, facts.max_tokens)
    return ComponentSpec(
        name="unet",
        file_name="Unet",
        description="UNet: predicts the noise in a latent at a timestep, guided by the prompt.",
        inputs=(
            TensorSpec("sample", latent, "float16", "The noisy latent, scaled by the scheduler"),
            TensorSpec("timestep", (batch,), "float32", "The timestep, the same for each sample"),
            TensorSpec(
                "encoder_hidden_states",
                context,
                "float16",
                "Text embeddings, channels first; row 0 unguided and row 1 guided at batch 2",
            ),
        ),
        outputs=(
            TensorSpec("noise_pred", latent, "float32", f"Prediction ({facts.prediction_type})"),
        ),
        load=partial(_load, "unet", folder),
        open=partial(_open, "unet", folder),
        published=partial(_published, "unet"),
        sample_inputs=partial(_sample_unet, latent, context),
    )


def _vae_decoder(folder: DiffusersFolder, facts: PipelineFacts) -> ComponentSpec:
    z = (1, facts.latent_channels, *facts.latent_size)
    return ComponentSpec(
        name="vae_decoder",
        file_name="VAEDecoder",
        description="VAE decoder: a latent to a picture.",
        inputs=(TensorSpec("z", z, "float16", "Latent divided by the scaling factor"),),
        outputs=(TensorSpec("image", (1, 3, *facts.size), "float32", "RGB picture, -1 to 1"),),
        load=partial(_load, "vae", folder),
        open=partial(_open, "vae", folder),
        published=partial(_published, "vae_decoder"),
        sample_inputs=partial(_sample_latent, z, facts.scaling_factor),
    )


def _vae_encoder(folder: DiffusersFolder, facts: PipelineFacts) -> ComponentSpec:
    x = (1, 3, *facts.size)
    latent = (1, 2 * facts.latent_channels, *facts.latent_size)
    return ComponentSpec(
        name="vae_encoder",
        file_name="VAEEncoder",
        description="VAE encoder: a picture to the mean and log variance of its latent.",
        inputs=(TensorSpec("x", x, "float16", "RGB picture, -1 to 1"),),
        outputs=(
            TensorSpec("latent", latent, "float32", "Mean, then log variance, before scaling"),
        ),
        load=partial(_load, "vae", folder),
        open=partial(_open, "vae", folder),
        published=partial(_published, "vae_encoder"),
        sample_inputs=partial(_sample_picture, x),
    )


def _load(part: str, folder: DiffusersFolder) -> nn.Module:
    from coreml_sd.models import load

    loaders = {"text_encoder": load.load_text_encoder, "unet": load.load_unet, "vae": load.load_vae}
    return loaders[part](folder)


def _open(part: str, folder: DiffusersFolder) -> OpenNetwork | None:
    from coreml_sd.models.skeleton import open_network

    return open_network(folder, part)


def _published(component: str, network: nn.Module) -> nn.Module:
    from coreml_sd.models import published

    wrappers = {
        "text_encoder": published.PublishedTextEncoder,
        "unet": published.PublishedUNet,
        "vae_decoder": published.PublishedVAEDecoder,
        "vae_encoder": published.PublishedVAEEncoder,
    }
    return wrappers[component](network).eval()


def _sample_tokens(length: int, vocabulary: int, text: dict[str, Any], seed: int) -> Arrays:
    """A start token, some words, then end tokens up to the full length, as a tokenizer pads."""
    generator = np.random.default_rng(seed)
    start, end = text.get("bos_token_id", vocabulary - 2), text.get("eos_token_id", vocabulary - 1)
    end = vocabulary - 1 if end == 2 else end  # CLIP configs say 2 where the tokenizer says last
    start = vocabulary - 2 if start in (0, None) else start
    words = int(generator.integers(1, max(2, min(20, length - 2))))
    ids = np.full((1, length), end)
    ids[0, 0] = start
    ids[0, 1 : 1 + words] = generator.integers(1, min(start, end), words)
    return {"input_ids": ids.astype(np.float32)}


def _sample_unet(latent: tuple[int, ...], context: tuple[int, ...], seed: int) -> Arrays:
    generator = np.random.default_rng(seed)
    timestep = np.full(latent[0], generator.integers(1, _MAX_TIMESTEP))
    return {
        "sample": generator.standard_normal(latent).astype(np.float16),
        "timestep": timestep.astype(np.float32),
        "encoder_hidden_states": generator.standard_normal(context).astype(np.float16),
    }


def _sample_latent(shape: tuple[int, ...], scaling_factor: float, seed: int) -> Arrays:
    noise = np.random.default_rng(seed).standard_normal(shape)
    return {"z": (noise / scaling_factor).astype(np.float16)}


def _sample_picture(shape: tuple[int, ...], seed: int) -> Arrays:
    """Smooth colours with some grain, -1 to 1."""
    generator = np.random.default_rng(seed)
    height, width = shape[2:]
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [
        np.sin(2 * np.pi * (generator.uniform(0.5, 4) * rows + generator.uniform(0.5, 4) * columns))
        for _ in range(3)
    ]
    picture = 0.8 * np.stack(waves) + 0.05 * generator.standard_normal((3, height, width))
    return {"x": np.clip(picture, -1, 1)[None].astype(np.float16)}
