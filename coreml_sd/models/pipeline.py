"""What a family says about a whole pipeline: its components and the facts generation needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec import to_builtins

from coreml_sd.errors import UserError, named
from coreml_sd.files.limits import LIMITS
from coreml_sd.models.component import ComponentSpec, Role
from coreml_sd.models.denoiser import Denoiser, FewSteps
from coreml_sd.models.find_model import Source
from coreml_sd.models.folder.corrections import SCHEDULER_FILE
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.folder.few_step_unets import ADVICE_NAME
from coreml_sd.schedulers.own import own_scheduler, require_drawable

USUAL_ADVICE = (7.5, 20)  # guidance and steps
_PROMPTS = ("a photo of a cat", "a red apple on a wooden table", "a lighthouse by the sea")


@dataclass(frozen=True)
class Advice:
    """Settings that suit a model; a model folder may carry its own in coreml_sd.json.

    `scheduler` is one of the names that `generate --scheduler` takes.
    """

    scheduler: str
    guidance: float = 7.5
    steps: int = 20
    prompts: tuple[str, ...] = _PROMPTS


def read_advice(
    folder: DiffusersFolder, scheduler: dict[str, Any], usual: tuple[float, int] = USUAL_ADVICE
) -> Advice:
    """The folder's own advice, or the defaults; the default scheduler is the model's own.

    Args:
        scheduler: the model's scheduler config.
        usual: guidance and steps of the family.

    Raises:
        UserError: a scheduler that cannot honour the config, which names the key, or advice of
            another kind or beyond the limits.
    """
    own = folder.path / ADVICE_NAME
    given = folder.json_file(ADVICE_NAME) if own.is_file() else {}
    name = given.get("scheduler")
    if name:
        with named(own):
            require_drawable(str(name), scheduler)
    guidance, steps = given.get("guidance", usual[0]), given.get("steps", usual[1])
    prompts = given.get("prompts", _PROMPTS)
    if isinstance(guidance, bool) or not isinstance(guidance, (int, float)):
        raise UserError(f"{own}: guidance is {guidance!r}, not a number")
    if not 0 <= guidance <= LIMITS.guidance:
        raise UserError(f"{own}: guidance is {guidance}; give 0 to {LIMITS.guidance:.0f}")
    if type(steps) is not int or not 1 <= steps <= LIMITS.steps:
        raise UserError(f"{own}: steps is {steps!r}; give a whole number from 1 to {LIMITS.steps}")
    if not isinstance(prompts, (list, tuple)) or not all(isinstance(p, str) for p in prompts):
        raise UserError(f"{own}: prompts is not a list of texts")
    with named(folder.path / SCHEDULER_FILE):
        chosen = str(name) if name else own_scheduler(scheduler).name
    return Advice(
        scheduler=chosen,
        guidance=float(guidance),
        steps=steps,
        prompts=tuple(prompts),
    )


@dataclass(frozen=True)
class PipelineFacts:
    """What generation must know beside the networks; stored in the manifest as it stands.

    `size` is the picture's (height, width) in pixels, `latent_size` the latent's. What a pipeline
    with one text encoder does not have is None and then not stored: `tokenizer_2` is as `tokenizer`
    for the second text encoder, `zeros_for_empty_prompt` whether an empty negative prompt is zeros
    instead of an encoded empty text, `few_steps` the denoisers for few steps, the fewest first.
    """

    family: str
    prediction_type: str
    size: tuple[int, int]
    latent_size: tuple[int, int]
    latent_channels: int
    vae_scale_factor: int
    scaling_factor: float
    shift_factor: float
    batch: int
    max_tokens: int
    scheduler: dict[str, Any]
    tokenizer: dict[str, Any]
    advice: Advice
    denoiser: Denoiser
    tokenizer_2: dict[str, Any] | None = None
    zeros_for_empty_prompt: bool | None = None
    few_steps: tuple[FewSteps, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For the manifest, what is None left out."""
        facts = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        told = {"denoiser": to_builtins(self.denoiser)}
        if self.few_steps is not None:
            told["few_steps"] = to_builtins(list(self.few_steps))
        return {**facts, **told}


@dataclass(frozen=True)
class DiffusionModel:
    """A model ready to be converted, run or inspected: where it is, its facts and components, and
    `notes` on what was read otherwise than it is written."""

    source: Source
    folder: DiffusersFolder
    facts: PipelineFacts
    components: tuple[ComponentSpec, ...]
    notes: tuple[str, ...] = ()

    def component(self, name: str) -> ComponentSpec:
        """One component by name.

        Raises:
            UserError: this model has none of that name.
        """
        for component in self.components:
            if component.name == name:
                return component
        names = ", ".join(component.name for component in self.components)
        raise UserError(f"{self.source.name}: no component {name}; it has {names}")

    def of_role(self, role: Role) -> ComponentSpec:
        """The first component that does this."""
        return next(component for component in self.components if component.role == role)


@dataclass(frozen=True)
class Family:
    """A kind of pipeline: the diffusers classes it covers and how to describe one of them.

    `describe` takes where the model is, its folder, the picture's size where one is asked for, and
    the denoiser's batch. It says what the components are, what the denoiser takes and how it is
    guided, the latents and the scheduler.
    """

    name: str
    pipeline_classes: tuple[str, ...]
    describe: Callable[[Source, DiffusersFolder, tuple[int, int] | None, int], DiffusionModel]
