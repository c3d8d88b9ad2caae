"""What a bundle's manifest.json may hold: one declared form, and the rules between its values.

The same rules hold in Swift and Kotlin; `tests/fixtures/bundle_rules.json` tries all three.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from coreml_sd.config import TARGETS
from coreml_sd.errors import UserError
from coreml_sd.files.inside_folder import stays_inside
from coreml_sd.files.limits import LIMITS, numbers_in
from coreml_sd.manifest.defaults import OLDER_FAMILIES
from coreml_sd.manifest.form import Component, Listed, Manifest, Pipeline, ToldDenoiser
from coreml_sd.models.denoiser import TOKENIZERS, Condition, Text
from coreml_sd.models.folder.tokenizer_files import MERGES_NAME, VOCAB_NAME

FORMAT = "coreml-sd bundle"
VERSION = 1


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Refuse a manifest of another form, or whose values do not fit together.

    Raises:
        UserError: names the key.
    """
    whole = _converted(manifest, Manifest, "")
    for number, target in enumerate(whole.config.targets):
        _require(target in TARGETS, f"config.targets[{number}]", f"{target!r} is unknown")
    _check_pipeline(whole.pipeline)
    listed = {
        name: _converted(entry, Listed, f"files.{name}") for name, entry in whole.files.items()
    }
    for name in listed:
        _require(stays_inside(name), f"files.{name}", "leads out of the bundle")
    for name in (VOCAB_NAME, MERGES_NAME):
        _require(name in listed, f"files.{name}", "missing")
    for name, value in whole.components.items():
        place = f"components.{name}"
        _check_component(_converted(value, Component, place), place, listed)
    if whole.scheduler_step is not UNSET:
        path = whole.scheduler_step.path
        _require(path in listed, "scheduler_step.path", f"{path} is not among the files")


def is_inside(name: str, path: str) -> bool:
    """Whether a listed file is a network's file, or lies in its folder."""
    return name == path or name.startswith(f"{path}/")


def is_listed(path: str, files: Iterable[str]) -> bool:
    """Whether a network's file, or something in its folder, is among a bundle's files."""
    return any(is_inside(name, path) for name in files)


def _converted(value: Any, kind: Any, place: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, at = str(error).partition(" - at `$")
        place = f"{place}{at.rstrip('`')}".removeprefix(".")
        if lacking := re.match(r"Object missing required field `(\w+)`", reason):
            place, reason = f"{place}.{lacking[1]}".removeprefix("."), "missing"
        raise UserError(f"{place}: {reason}") from None


def _check_pipeline(facts: Pipeline) -> None:
    for axis, factor in (("height", 0), ("width", 1)):
        latent = facts.latent_size[factor] * facts.vae_scale_factor
        _require(
            facts.size[factor] == latent,
            "pipeline.size",
            f"{axis} {facts.size[factor]} is not that of pipeline.latent_size times "
            f"pipeline.vae_scale_factor, {latent}",
        )
    latent = facts.batch * facts.latent_channels * math.prod(facts.latent_size)
    _require(latent <= LIMITS.elements, "pipeline.latent_size", f"{latent} numbers are too many")
    _require(facts.scaling_factor != 0, "pipeline.scaling_factor", "0 leaves no picture")
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer = getattr(facts, name)
        _require(
            tokenizer is UNSET or tokenizer.max_tokens == facts.max_tokens,
            f"pipeline.{name}.max_tokens",
            "is not pipeline.max_tokens",
        )
    if facts.preview is not UNSET:
        rows = len(facts.preview.weights)
        _require(rows == facts.latent_channels, "pipeline.preview.weights", f"{rows} rows")
    _check_denoiser(facts)
    _check_scheduler(facts.scheduler)


def _check_denoiser(facts: Pipeline) -> None:
    if facts.denoiser is UNSET:
        known = facts.family in OLDER_FAMILIES
        _require(
            known, "pipeline.family", f"{facts.family[:40]!r} is unknown, and no denoiser told"
        )
        two = facts.family == OLDER_FAMILIES[1]
        _require(not two or facts.tokenizer_2 is not UNSET, "pipeline.tokenizer_2", "missing")
    else:
        _check_conditions(facts, facts.denoiser, "pipeline.denoiser")
    before = 0
    for number, few in enumerate(() if facts.few_steps is UNSET else facts.few_steps):
        place = f"pipeline.few_steps[{number}]"
        _require(few.steps > before, f"{place}.steps", f"{few.steps} after {before}")
        _check_conditions(facts, few.denoiser, f"{place}.denoiser")
        before = few.steps


def _check_conditions(facts: Pipeline, denoiser: ToldDenoiser, place: str) -> None:
    for name, value in denoiser.conditions.items():
        where = f"{place}.conditions.{name}"
        condition = _converted(value, Condition, where)
        for output in condition.outputs if isinstance(condition, Text) else ():
            tokenizer = TOKENIZERS[output.component]
            held = getattr(facts, tokenizer) is not UNSET
            _require(held, where, f"asks for {output.component} without pipeline.{tokenizer}")


def _check_scheduler(config: dict[str, Any]) -> None:
    place = "pipeline.scheduler"
    _require(isinstance(config.get("_class_name"), str), f"{place}._class_name", "no name")
    count = config.get("num_train_timesteps", 1000)
    fits = type(count) is int and 1 <= count <= LIMITS.train_timesteps
    _require(fits, f"{place}.num_train_timesteps", f"{count!r}: 1 to {LIMITS.train_timesteps}")
    for key, value in config.items():
        for number in numbers_in(value):
            _require(abs(number) <= LIMITS.factor, f"{place}.{key}", f"{number} is too large")
        if isinstance(value, list):
            most = LIMITS.train_timesteps
            _require(len(value) <= most, f"{place}.{key}", f"more than {most} numbers")


def _check_component(component: Component, place: str, listed: Mapping[str, Listed]) -> None:
    for kind in ("inputs", "outputs"):
        tensors = getattr(component, kind)
        names = [tensor.name for tensor in tensors]
        _require(len(set(names)) == len(names), f"{place}.{kind}", "a name stands twice")
        for tensor in tensors:
            size = math.prod(tensor.shape)
            fits = size <= LIMITS.elements
            _require(fits, f"{place}.{kind}", f"{tensor.name} of {size} numbers is too large")
    for number, file in enumerate(component.files):
        where = f"{place}.files[{number}]"
        _require(stays_inside(file.path), f"{where}.path", f"{file.path!r} leads out of the bundle")
        is_there = is_listed(file.path, listed)
        _require(is_there, f"{where}.path", f"{file.path} is not among the files")
    _check_chain(component, place)
    for target, told in ({} if component.parity is UNSET else component.parity).items():
        names = [check.name for check in told.checks]
        _require(told.headline in names, f"{place}.parity.{target}.headline", "no such check")


def _check_chain(component: Component, place: str) -> None:
    """Each file reads the component's inputs or what an earlier file of its target gave."""
    known: dict[str, set[str]] = {}
    for number, file in enumerate(component.files):
        given = known.setdefault(file.target, {tensor.name for tensor in component.inputs})
        strange = sorted(set(file.inputs) - given)
        where = f"{place}.files[{number}].inputs"
        _require(not strange, where, f"{strange[:1]} comes from nowhere")
        given |= set(file.outputs)


def _require(is_right: bool, place: str, reason: str) -> None:
    if not is_right:
        raise UserError(f"{place}: {reason}")
