"""Which numbers of steps a scheduler can take; the same limits in Swift."""

from __future__ import annotations

import inspect
from typing import Any

from coreml_sd.errors import UserError


def require_steps(scheduler: Any, steps: int) -> None:
    """Refuse more steps than a scheduler of diffusers has timesteps for.

    Raises:
        UserError: such a number.
    """
    distilled = "original_inference_steps" in inspect.signature(type(scheduler).__init__).parameters
    key = "original_inference_steps" if distilled else "num_train_timesteps"
    most = scheduler.config[key]
    if not 1 <= steps <= most:
        raise UserError(f"steps = {steps}: give a number from 1 to {most}")


def require_falling(scheduler: Any, steps: int) -> None:
    """Refuse steps that leave the training's timesteps, or between which the noise does not fall.

    Args:
        scheduler: with its timesteps set.

    Raises:
        UserError: such steps.
    """
    timesteps, train = scheduler.timesteps, scheduler.config.num_train_timesteps
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None:
        if not (sigmas[1:steps] < sigmas[: steps - 1]).all():
            raise UserError(f"steps = {steps}: the noise does not fall in each; take fewer steps")
    elif not 0 <= timesteps.min() <= timesteps.max() < train:
        raise UserError(f"steps = {steps}: one lies outside the model's {train}; take fewer steps")
