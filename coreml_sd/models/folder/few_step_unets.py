"""UNets for few steps that lie beside a model's usual one: its own coreml_sd.json names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS

ADVICE_NAME = "coreml_sd.json"
FEW_STEPS_KEY = "few_steps"
_NAME = re.compile("unet_[a-z0-9_]{1,40}")


def is_few_step_unet(name: str) -> bool:
    """Whether a folder or a component of this name can be a UNet for few steps."""
    return _NAME.fullmatch(name) is not None


def few_step_unets(advice: Mapping[str, Any], origin: str) -> dict[str, int]:
    """Folder of each UNet for few steps -> the most steps that it draws with, the fewest first.

    Args:
        advice: what coreml_sd.json holds: `{"few_steps": {"unet_1_step": 1}}`.

    Raises:
        UserError: it says something else; names the file, `origin`.
    """
    told = advice.get(FEW_STEPS_KEY, {})
    place = f"{origin}: {FEW_STEPS_KEY}"
    if not isinstance(told, dict) or len(told) > LIMITS.few_steps:
        raise UserError(f"{place} is not a table of at most {LIMITS.few_steps} folders and steps")
    for name, steps in told.items():
        if not is_few_step_unet(name):
            raise UserError(f"{place}: {name[:40]!r} is no folder of a UNet, such as unet_1_step")
        if type(steps) is not int or not 1 <= steps <= LIMITS.steps:
            raise UserError(f"{place}: {name} is {steps!r}; give its steps, 1 to {LIMITS.steps}")
    if len({*told.values()}) < len(told):
        raise UserError(f"{place}: two of them have the same steps")
    return dict(sorted(told.items(), key=lambda entry: entry[1]))
