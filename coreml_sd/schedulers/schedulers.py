"""diffusers' schedulers by the names people use, built from a model's scheduler config."""

from __future__ import annotations

import inspect
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.schedulers.names import NAMES, class_name, named_config
from coreml_sd.schedulers.steps import require_falling, require_steps
from coreml_sd.schedulers.supported import CHOOSE, require_supported

__all__ = ["NAMES"]


def make_scheduler(name: str, config: dict[str, Any]) -> Any:
    """A scheduler with the betas, prediction type and spacing of `config`.

    Raises:
        UserError: an unknown name, or a config that it cannot honour.
    """
    require_supported(name, config)
    import diffusers

    kind = getattr(diffusers, class_name(name))
    named = named_config(name, config)
    try:
        return kind.from_config(named)
    except Exception as error:
        key = _culprit(kind, named)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"scheduler {name}: the model's {key} is not supported ({first}); {CHOOSE}"
        ) from error


def _culprit(kind: Any, config: dict[str, Any]) -> str:
    """The setting without which diffusers builds a scheduler."""
    for key in config:
        try:
            kind.from_config({other: value for other, value in config.items() if other != key})
            return key
        except Exception:
            continue
    return "scheduler config"


def begin(scheduler: Any, steps: int) -> None:
    """Set the timesteps, and say that the first step is the first.

    Left to itself, diffusers looks it up by its timestep, and fails where rounding gave two steps
    the same (Karras sigmas over cosine betas).

    Raises:
        UserError: a number of steps that the scheduler cannot take.
    """
    require_steps(scheduler, steps)
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    require_falling(scheduler, steps)


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
