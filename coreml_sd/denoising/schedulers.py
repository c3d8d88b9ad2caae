"""diffusers' schedulers by the names people use, built from a model's scheduler config."""

from __future__ import annotations

import inspect
from typing import Any

from coreml_sd.errors import UserError

DEFAULT = "dpm++"

# name -> diffusers class and the settings that make it what the name says.
_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpm++-karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    ),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "flow-match-euler": ("FlowMatchEulerDiscreteScheduler", {}),
}

NAMES = tuple(_SCHEDULERS)


def make_scheduler(name: str, config: dict[str, Any]) -> Any:
    """A scheduler with the betas, prediction type and spacing of `config`.

    Raises:
        UserError: an unknown name, or flow matching for a model that was trained otherwise.
    """
    if name not in _SCHEDULERS:
        raise UserError(f"scheduler {name}: unknown; choose from {', '.join(NAMES)}")
    predicts = config.get("prediction_type") or "flow_prediction"
    if name == "flow-match-euler" and predicts != "flow_prediction":
        raise UserError(
            f"scheduler {name}: for models trained with flow matching, this one predicts"
            f" {predicts}; choose another scheduler"
        )
    import diffusers

    class_name, settings = _SCHEDULERS[name]
    return getattr(diffusers, class_name).from_config({**config, **settings})


def begin(scheduler: Any, steps: int) -> None:
    """Set the timesteps, and say that the first step is the first.

    Left to itself, diffusers looks it up by its timestep, and fails where rounding gave two steps
    the same (Karras sigmas over cosine betas).
    """
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)


def takes_generator(scheduler: Any) -> bool:
    """Whether a step of a diffusers scheduler may draw noise."""
    return "generator" in inspect.signature(scheduler.step).parameters


def initial_noise_scale(scheduler: Any) -> float:
    """What the first noise is multiplied with; diffusers' flow matching does not say."""
    return float(getattr(scheduler, "init_noise_sigma", 1.0))


def scaled_input(scheduler: Any, latent: Any, timestep: Any) -> Any:
    """The latent as the UNet reads it; diffusers' flow matching does not scale it."""
    scale = getattr(scheduler, "scale_model_input", None)
    return scale(latent, timestep) if scale else latent
