"""What diffusers' pipelines correct in the configs of older folders when they open them.

Sources: `__init__` of `StableDiffusionPipeline` and its image-to-image kin in diffusers. The
pipelines of Stable Diffusion XL correct nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from packaging.version import InvalidVersion, Version

from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS
from coreml_sd.models.folder.class_defaults import class_defaults, is_scheduler
from coreml_sd.models.folder.diffusers_folder import INDEX_NAME, DiffusersFolder

SCHEDULER_FILE = "scheduler/scheduler_config.json"
_COUNTS = ("num_train_timesteps", "original_inference_steps")
_OLD_UNET, _OLD_SIZE = Version("0.9.0.dev0"), 64


@dataclass(frozen=True)
class Corrected:
    """A value as the pipeline uses it, and a line for each correction."""

    value: Any
    notes: tuple[str, ...] = ()


def scheduler_as_read(folder: DiffusersFolder) -> dict[str, Any]:
    """The scheduler's config; its class is the one that model_index.json names.

    Raises:
        UserError: there is none, diffusers has no scheduler of that class, or a number is beyond
            the limits.
    """
    config = folder.json_file(SCHEDULER_FILE)
    named = folder.indexed_class("scheduler")
    if named is None:
        raise UserError(f"{folder.path / INDEX_NAME}: names no scheduler")
    if not is_scheduler(named):
        raise UserError(
            f"{folder.path / INDEX_NAME}: scheduler is {named}, which this diffusers does not "
            "have; name another one there, with its config in scheduler/"
        )
    _require_limits(f"{folder.path / SCHEDULER_FILE}", config)
    return {**config, "_class_name": named}


def _require_limits(file: str, config: dict[str, Any]) -> None:
    """Before a table of a scheduler is reckoned with them. An infinity says that nothing is cut."""
    for key, value in config.items():
        most = LIMITS.train_timesteps if key in _COUNTS else LIMITS.factor
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) > LIMITS.train_timesteps:
            raise UserError(f"{file}: {key} lists {len(numbers)} values; correct it")
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                if key in _COUNTS:
                    raise UserError(f"{file}: {key} is {number!r}, not a whole number; correct it")
                continue
            if math.isnan(number) or (not math.isinf(number) and abs(number) > most):
                raise UserError(f"{file}: {key} is {number:.6g}; at most {most:.0f} is possible")
            if key in _COUNTS and (not isinstance(number, int) or number < 1):
                raise UserError(
                    f"{file}: {key} is {number}, not a whole number above 0; correct it"
                )


def corrected_scheduler(config: dict[str, Any]) -> Corrected:
    """The config of a scheduler in a Stable Diffusion pipeline."""
    defaults = class_defaults(config["_class_name"])
    changes: dict[str, Any] = {}
    offset = config.get("steps_offset", defaults.get("steps_offset", 1))
    if offset != 1:
        changes["steps_offset"] = 1
    if config.get("clip_sample", defaults.get("clip_sample", False)) is True:
        changes["clip_sample"] = False
    notes = tuple(
        f"{SCHEDULER_FILE}: {key} {_shown(key, config)} taken as {_word(value)}, as diffusers does"
        for key, value in changes.items()
    )
    return Corrected({**config, **changes}, notes)


def corrected_sample_size(unet: dict[str, Any]) -> Corrected:
    """The side of the latent that a UNet's config asks for, in a Stable Diffusion pipeline."""
    size = unet.get("sample_size")
    if not isinstance(size, int) or size >= _OLD_SIZE or not _is_old(unet):
        return Corrected(size)
    note = (
        f"unet/config.json: sample_size {size} of diffusers {unet['_diffusers_version']} taken as "
        f"{_OLD_SIZE}, as diffusers does"
    )
    return Corrected(_OLD_SIZE, (note,))


def _is_old(unet: dict[str, Any]) -> bool:
    try:
        version = Version(str(unet.get("_diffusers_version", "")))
    except InvalidVersion:
        return False
    return Version(version.base_version) < _OLD_UNET


def _shown(key: str, config: dict[str, Any]) -> str:
    return _word(config[key]) if key in config else "is not there and"


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
