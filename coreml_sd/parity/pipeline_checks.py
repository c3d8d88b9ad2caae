"""A bundle's facts against diffusers' own pipeline: tokens, scheduler, sizes, constants."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coreml_sd.generation.prompt import PromptEncoder
from coreml_sd.metrics import psnr_db
from coreml_sd.models.denoiser import guidance_embedding, size_numbers
from coreml_sd.parity.checks import GATE_MOBILE, Check, ComponentParity, count_check
from coreml_sd.parity.diffusers_source import DiffusersSource, quiet
from coreml_sd.schedulers.names import named_config
from coreml_sd.schedulers.own import default_scheduler
from coreml_sd.schedulers.schedulers import begin, make_scheduler, scaled_input, takes_generator
from coreml_sd.upstream.diffusers_hooks import added_time_ids

PIPELINE = "pipeline"
# What tokenizers differ in: case, punctuation, accents, emoji, marks, length.
PROMPTS = (
    "",
    "a photo of a cat",
    "A Red Apple!! on a wooden table, 8k, f/1.8 (masterpiece:1.2)",
    "don't  it's\tcafé naïve straße ÉCOLE Ångström",
    "😀 a 🦓 under a 🏳️‍🌈, 1️⃣2️⃣, 猫が窓に座っている",
    "a!b <|endoftext|> c <|startoftext|>d",
    "word " * 100,
    " ".join(f"thing{number}," for number in range(60)),
)
_WORDS = 8  # added words that prompts are made of
_SEED = 0
_SHAPE = (1, 4, 8, 8)
_STEPS_TAKEN = 2
_GATE_ANGLES = 65.0  # dB: fp32 knows an angle of thousands of radians to a thousandth


def pipeline_parity(
    source: DiffusersSource,
    facts: dict[str, Any],
    vocabulary: Path,
    own_size: tuple[int, int] | None,
) -> ComponentParity:
    """Compare what generation is told with what diffusers' pipeline does.

    Args:
        facts: `pipeline` of the manifest.
        vocabulary: the folder with the bundle's `vocab.json` and `merges.txt`.
        own_size: height and width that this package takes for the model's own; None for unknown.

    Raises:
        UserError: diffusers cannot open the folder.
    """
    pipeline = source.pipeline
    is_chosen = source.advises_scheduler
    with quiet():  # of prompts that are too long
        checks = [
            *_tokens(pipeline, facts, vocabulary),
            *_scheduler("scheduler", pipeline, facts, is_chosen, facts["advice"]["steps"]),
            _same("size of the model's own pictures", {"size": (_size(pipeline), own_size)}),
            _same("constants of the pipeline", _constants(pipeline, facts)),
        ]
        for few in facts.get("few_steps", []):
            component, steps = few["denoiser"]["component"], few["steps"]
            told = _conditions(source.pipeline_with(component), facts, few["denoiser"], "none")
            checks.append(_same(f"what {component} is told", told))
            checks += _scheduler(f"scheduler, {component}", pipeline, facts, is_chosen, steps)
    label = f"diffusers {version('diffusers')}'s own pipeline ({type(pipeline).__name__})"
    return ComponentParity(PIPELINE, "diffusers", label, checks[0].name, tuple(checks))


def _tokens(pipeline: Any, facts: dict[str, Any], vocabulary: Path) -> Iterator[Check]:
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer = getattr(pipeline, name, None)
        if tokenizer is None:
            continue
        encoder = PromptEncoder(vocabulary, facts[name]) if name in facts else None
        wrong = []
        prompts = [*PROMPTS, *_with_added_words(tokenizer)]
        for prompt in prompts:
            expected = tokenizer(
                pipeline.maybe_convert_prompt(prompt, tokenizer),
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
            ).input_ids
            found = encoder.encode(prompt).ids[0].astype(int).tolist() if encoder else []
            if found != expected:
                wrong.append(prompt)
        detail = f"first: {wrong[0][:40]!r}" if wrong else ""
        yield count_check(f"{name}: prompts of {len(prompts)} with other ids", len(wrong), detail)


def _with_added_words(tokenizer: Any) -> list[str]:
    words = [word.content for word in tokenizer.added_tokens_decoder.values()]
    return [f"a photo of {word}, x{word}y {word.upper()}" for word in words[-_WORDS:]]


def _scheduler(
    label: str, pipeline: Any, facts: dict[str, Any], is_chosen: bool, steps: int
) -> Iterator[Check]:
    """What is drawn with by default, beside the pipeline's own scheduler.

    Beside the same class made from the pipeline's config where that is none of ours, or where the
    model's folder advises another: `is_chosen`.
    """
    default = default_scheduler(facts)
    ours = make_scheduler(default.name, facts["scheduler"])
    theirs = pipeline.scheduler
    if default.note or is_chosen:
        theirs = type(ours).from_config(named_config(default.name, dict(theirs.config)))
    taken = min(_STEPS_TAKEN, steps)
    expected, found = _run(theirs, steps), _run(ours, steps)
    what = f"{default.name}, {steps} steps" + (f" ({default.note})" if default.note else "")
    names = {"timesteps": "timesteps", "sigmas": "sigmas", "latent": f"latent after {taken} steps"}
    for key, name in names.items():
        value = _closeness(expected.get(key), found.get(key))
        yield Check(f"{label}: {name}", value, "dB", GATE_MOBILE, value >= GATE_MOBILE, what)


def _run(scheduler: Any, steps: int) -> dict[str, Any]:
    """Timesteps and sigmas, and the latent after the first steps on fixed predictions."""
    begin(scheduler, steps)
    generator = torch.Generator().manual_seed(_SEED)
    latent = torch.randn(_SHAPE, generator=generator)
    latent = latent * float(getattr(scheduler, "init_noise_sigma", 1.0))
    extra = {"generator": generator} if takes_generator(scheduler) else {}
    for timestep in scheduler.timesteps[:_STEPS_TAKEN]:
        seen = scaled_input(scheduler, latent, timestep)
        prediction = torch.randn(_SHAPE, generator=generator) + 0.1 * seen
        latent = scheduler.step(prediction, timestep, latent, **extra).prev_sample
    found = {"timesteps": scheduler.timesteps, "latent": latent}
    if getattr(scheduler, "sigmas", None) is not None:
        found["sigmas"] = scheduler.sigmas
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def _closeness(expected: Any, found: Any) -> float:
    """dB; infinite where both are the same, or neither is there."""
    if expected is None and found is None:
        return math.inf
    if expected is None or found is None or expected.shape != found.shape:
        return -math.inf
    return psnr_db(expected, found)


def _size(pipeline: Any) -> tuple[int, int] | None:
    side = pipeline.unet.config.sample_size
    if side is None:
        return None
    height, width = (side, side) if isinstance(side, int) else side
    return height * pipeline.vae_scale_factor, width * pipeline.vae_scale_factor


def _constants(pipeline: Any, facts: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key -> what diffusers has and what the manifest has."""
    vae, unet, scheduler = pipeline.vae.config, pipeline.unet.config, pipeline.scheduler.config
    pairs = {
        "vae_scale_factor": pipeline.vae_scale_factor,
        "scaling_factor": vae.scaling_factor,
        "shift_factor": getattr(vae, "shift_factor", None) or 0.0,
        "latent_channels": unet.in_channels,
        "max_tokens": pipeline.tokenizer.model_max_length,
        "prediction_type": getattr(scheduler, "prediction_type", facts["prediction_type"]),
    }
    if getattr(pipeline, "text_encoder_2", None) is not None:
        pairs["zeros_for_empty_prompt"] = pipeline.config.force_zeros_for_empty_prompt
    told = {key: (value, facts.get(key)) for key, value in pairs.items()}
    return told | _conditions(pipeline, facts, facts["denoiser"], "classifier-free")


def _conditions(
    pipeline: Any, facts: dict[str, Any], denoiser: dict[str, Any], otherwise: str
) -> dict[str, tuple[Any, Any]]:
    """The same for what a denoiser is told beside the prompt, and how it is guided: `otherwise`
    where it is not told the guidance."""
    width = pipeline.unet.config.time_cond_proj_dim
    told: dict[str, tuple[Any, Any]]
    told = {"guidance": (otherwise if width is None else "embedded", denoiser["guidance"])}
    for name, condition in denoiser["conditions"].items():
        if condition["kind"] == "size":
            size = tuple(facts["size"])
            ids = added_time_ids(pipeline, size)
            told[name] = (ids[0].tolist(), list(size_numbers(size)))
        elif condition["kind"] == "guidance":
            scale = torch.tensor([facts["advice"]["guidance"] - 1])
            expected = pipeline.get_guidance_scale_embedding(scale, embedding_dim=width)[0].numpy()
            found = guidance_embedding(facts["advice"]["guidance"], condition["width"])
            alike = expected.shape == found.shape and psnr_db(expected, found) >= _GATE_ANGLES
            told[name] = (True, bool(alike))
    return told


def _same(name: str, pairs: dict[str, tuple[Any, Any]]) -> Check:
    wrong = [f"{key} is {b}, not {a}" for key, (a, b) in pairs.items() if a != b]
    return count_check(f"{name}: differences", len(wrong), "; ".join(wrong))
