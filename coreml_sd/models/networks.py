"""The networks that pipelines of the Stable Diffusion kind have in common, as component specs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from coreml_sd.models.component import Arrays, ComponentSpec, TensorSpec
from coreml_sd.models.denoiser import (
    Condition,
    Denoiser,
    FewSteps,
    Guidance,
    Size,
    guidance_embedding,
    size_numbers,
)
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.pipeline import PipelineFacts

if TYPE_CHECKING:
    from torch import nn

    from coreml_sd.models.weights.placeholder_network import OpenNetwork

_MAX_TIMESTEP = 1000


def text_encoder(folder: DiffusersFolder, text: dict[str, Any]) -> ComponentSpec:
    """The only text encoder of a pipeline: it gives what its last layer gives, normed."""
    width = text["hidden_size"]
    return _text_encoder(
        folder,
        text,
        description="CLIP text encoder: tokens of a prompt to the embeddings that guide the UNet.",
        states="last_hidden_state",
        pooled_width=width,
    )


def penultimate_text_encoder(
    folder: DiffusersFolder, text: dict[str, Any], *, second: bool
) -> ComponentSpec:
    """One of two text encoders: it gives what its last layer but one gives."""
    described = "Second" if second else "First"
    width = text["projection_dim"] if second else text["hidden_size"]
    return _text_encoder(
        folder,
        text,
        name="text_encoder_2" if second else "text_encoder",
        file_name="TextEncoder2" if second else "TextEncoder",
        description=f"{described} CLIP text encoder: tokens of a prompt to a part of the "
        "embeddings that guide the UNet.",
        states="hidden_embeds",
        pooled_width=width,
        form="penultimate_text_encoder",
    )


def _text_encoder(
    folder: DiffusersFolder,
    text: dict[str, Any],
    *,
    description: str,
    states: str,
    pooled_width: int,
    name: str = "text_encoder",
    file_name: str = "TextEncoder",
    form: str = "text_encoder",
) -> ComponentSpec:
    width, length = text["hidden_size"], text["max_position_embeddings"]
    pooled = (1, pooled_width)
    return ComponentSpec(
        name=name,
        role="text_encoder",
        file_name=file_name,
        description=description,
        inputs=(
            TensorSpec("input_ids", (1, length), "float32", "Token ids, padded to the full length"),
        ),
        outputs=(
            TensorSpec(states, (1, length, width), "float32", "One embedding a token"),
            TensorSpec("pooled_outputs", pooled, "float32", "The embedding at the end token"),
        ),
        load=partial(_load, name, folder),
        open=partial(_open, name, folder),
        published=partial(_published, form),
        sample_inputs=partial(_sample_tokens, length, text["vocab_size"], text),
        form=form,
    )


def unet_component(
    folder: DiffusersFolder,
    unet: dict[str, Any],
    facts: PipelineFacts,
    pooled_width: int = 0,
    few: FewSteps | None = None,
) -> ComponentSpec:
    """The denoising UNet, with the conditions that its family says.

    Args:
        pooled_width: of the pooled prompt, where it takes one.
        few: what is said of it where it is one for few steps.
    """
    denoiser = few.denoiser if few else facts.denoiser
    batch = min(facts.batch, denoiser.rows)
    latent = (batch, facts.latent_channels, *facts.latent_size)
    conditions = [
        _condition(name, condition, unet, facts, batch, pooled_width)
        for name, condition in denoiser.conditions.items()
    ]
    name = denoiser.component
    for_steps = f" In {few.steps} steps or fewer." if few else ""
    return ComponentSpec(
        name=name,
        role="denoiser",
        file_name="".join(word.capitalize() for word in name.split("_")),
        description="UNet: predicts the noise in a latent at a timestep, guided by the prompt."
        + for_steps,
        inputs=(
            TensorSpec("sample", latent, "float16", "The noisy latent, scaled by the scheduler"),
            TensorSpec("timestep", (batch,), "float32", "The timestep, the same for each sample"),
            *conditions,
        ),
        outputs=(
            TensorSpec("noise_pred", latent, "float32", f"Prediction ({facts.prediction_type})"),
        ),
        load=partial(_load, name, folder),
        open=partial(_open, name, folder),
        published=partial(_published_unet, tuple(denoiser.conditions)),
        sample_inputs=partial(_sample_unet, latent, tuple(conditions), denoiser, facts),
        form="unet",
    )


def _condition(
    name: str,
    condition: Condition,
    unet: dict[str, Any],
    facts: PipelineFacts,
    batch: int,
    pooled_width: int,
) -> TensorSpec:
    if isinstance(condition, Size):
        numbers = len(size_numbers(facts.size))
        described = (
            "In pixels: height and width before cropping, corner of the crop, height and width"
        )
        return TensorSpec(name, (batch, numbers), "float32", described)
    if isinstance(condition, Guidance):
        described = "The guidance, as sines and cosines"
        return TensorSpec(name, (batch, condition.width), "float32", described)
    if all(each.output == "pooled_outputs" for each in condition.outputs):
        described = "Pooled output of the second text encoder"
        return TensorSpec(name, (batch, pooled_width), "float16", described)
    context = (batch, unet["cross_attention_dim"], 1, facts.max_tokens)
    described = "Text embeddings, channels first; row 0 unguided and row 1 guided at batch 2"
    return TensorSpec(name, context, "float16", described)


def vae_decoder(folder: DiffusersFolder, facts: PipelineFacts) -> ComponentSpec:
    """The half of the VAE that makes pictures."""
    z = (1, facts.latent_channels, *facts.latent_size)
    return ComponentSpec(
        name="vae_decoder",
        role="latent_decoder",
        file_name="VAEDecoder",
        description="VAE decoder: a latent to a picture.",
        inputs=(TensorSpec("z", z, "float16", "Latent divided by the scaling factor"),),
        outputs=(TensorSpec("image", (1, 3, *facts.size), "float32", "RGB picture, -1 to 1"),),
        load=partial(_load, "vae", folder),
        open=partial(_open, "vae", folder),
        published=partial(_published, "vae_decoder"),
        sample_inputs=partial(_sample_latent, z, facts.scaling_factor),
    )


def vae_encoder(folder: DiffusersFolder, facts: PipelineFacts) -> ComponentSpec:
    """The half of the VAE that reads pictures."""
    x = (1, 3, *facts.size)
    latent = (1, 2 * facts.latent_channels, *facts.latent_size)
    return ComponentSpec(
        name="vae_encoder",
        role="latent_encoder",
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
    from coreml_sd.models.weights import load

    return load.load_network(folder, part)


def _open(part: str, folder: DiffusersFolder) -> OpenNetwork:
    from coreml_sd.models.weights.placeholder_network import open_network

    return open_network(folder, part)


def _published(form: str, network: nn.Module) -> nn.Module:
    from coreml_sd.models import published

    wrappers = {
        "text_encoder": published.PublishedTextEncoder,
        "penultimate_text_encoder": published.PublishedPenultimateText,
        "vae_decoder": published.PublishedVAEDecoder,
        "vae_encoder": published.PublishedVAEEncoder,
    }
    return wrappers[form](network).eval()


def _published_unet(conditions: tuple[str, ...], network: nn.Module) -> nn.Module:
    from coreml_sd.models.published import PublishedUNet

    return PublishedUNet(network, conditions).eval()


def _sample_tokens(length: int, vocabulary: int, text: dict[str, Any], seed: int) -> Arrays:
    """A start token, some words, then end tokens up to the full length, as a tokenizer pads."""
    generator = np.random.default_rng(seed)
    start, end = text.get("bos_token_id"), text.get("eos_token_id")
    # CLIP configs say 0 and 2 where the tokenizer says the last two.
    start = start if isinstance(start, int) and 0 < start < vocabulary else vocabulary - 2
    end = end if isinstance(end, int) and 2 < end < vocabulary else vocabulary - 1
    words = int(generator.integers(1, max(2, min(20, length - 2))))
    ids = np.full((1, length), end)
    ids[0, 0] = start
    ids[0, 1 : 1 + words] = generator.integers(1, max(2, min(start, end)), words)
    if seed % 2 and vocabulary - 1 > max(start, end):
        ids[0, words] = vocabulary - 1  # a word that was added behind the marks
    return {"input_ids": ids.astype(np.float32)}


def _sample_unet(
    latent: tuple[int, ...],
    conditions: tuple[TensorSpec, ...],
    denoiser: Denoiser,
    facts: PipelineFacts,
    seed: int,
) -> Arrays:
    generator = np.random.default_rng(seed)
    timestep = np.full(latent[0], generator.integers(1, _MAX_TIMESTEP))
    arrays: Arrays = {
        "sample": generator.standard_normal(latent).astype(np.float16),
        "timestep": timestep.astype(np.float32),
    }
    for spec in conditions:
        condition = denoiser.conditions[spec.name]
        if isinstance(condition, Size):
            arrays[spec.name] = np.array([size_numbers(facts.size)] * latent[0], np.float32)
        elif isinstance(condition, Guidance):
            row = guidance_embedding(facts.advice.guidance, condition.width)
            arrays[spec.name] = np.stack([row] * latent[0])
        else:
            arrays[spec.name] = generator.standard_normal(spec.shape).astype(np.float16)
    return arrays


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
