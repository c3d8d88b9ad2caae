"""What a bundle's manifest.json may hold: one declared form, and the rules between its values.

The same rules hold in Swift and Kotlin; `tests/fixtures/bundle_rules.json` tries all three.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from coreml_sd.errors import UserError
from coreml_sd.inside_folder import stays_inside
from coreml_sd.limits import LIMITS
from coreml_sd.models.tokenizer_files import MERGES_NAME, VOCAB_NAME

FORMAT = "coreml-sd bundle"
VERSION = 1
_ADVICE: dict[str, Any] = {"guidance": 7.5, "steps": 20, "prompts": []}

_Pixels = Annotated[int, Meta(ge=1, le=LIMITS.pixels)]
_LatentPixels = Annotated[int, Meta(ge=1, le=LIMITS.latent_pixels)]
_Tokens = Annotated[int, Meta(ge=2, le=LIMITS.max_tokens)]
_TokenID = Annotated[int, Meta(ge=0, le=LIMITS.token_id)]
_Number = Annotated[float, Meta(ge=-LIMITS.factor, le=LIMITS.factor)]
_Bytes = Annotated[int, Meta(ge=0, le=LIMITS.file_bytes)]
_Name = Annotated[str, Meta(min_length=1, max_length=LIMITS.word_characters)]
_Colour = tuple[_Number, _Number, _Number]
_Positive = Annotated[int, Meta(ge=1)]
_Optional = UnsetType


class _AddedToken(Struct):
    content: _Name
    id: _TokenID
    lstrip: bool
    rstrip: bool
    single_word: bool
    normalized: bool
    special: bool


class _Tokenizer(Struct):
    bos_token_id: _TokenID
    eos_token_id: _TokenID
    pad_token_id: _TokenID
    max_tokens: _Tokens
    added_tokens: Annotated[list[_AddedToken], Meta(max_length=LIMITS.added_tokens)] | _Optional = (
        UNSET
    )


class _Advice(Struct):
    guidance: Annotated[float, Meta(ge=0, le=LIMITS.guidance)] | _Optional = UNSET
    steps: Annotated[int, Meta(ge=1, le=LIMITS.steps)] | _Optional = UNSET
    scheduler: str | _Optional = UNSET
    prompts: list[str] | _Optional = UNSET


class _Preview(Struct):
    weights: list[_Colour]
    bias: _Colour


class _Pipeline(Struct):
    family: Literal["stable-diffusion", "stable-diffusion-xl", "mobile-diffusion"]
    prediction_type: Literal["epsilon", "v_prediction", "sample"]
    size: tuple[_Pixels, _Pixels]
    latent_size: tuple[_LatentPixels, _LatentPixels]
    latent_channels: Annotated[int, Meta(ge=1, le=LIMITS.latent_channels)]
    vae_scale_factor: Annotated[int, Meta(ge=1, le=LIMITS.vae_scale_factor)]
    scaling_factor: _Number
    batch: Annotated[int, Meta(ge=1, le=LIMITS.batch)]
    max_tokens: _Tokens
    scheduler: dict[str, Any]
    tokenizer: _Tokenizer
    shift_factor: _Number | _Optional = UNSET
    tokenizer_2: _Tokenizer | _Optional = UNSET
    zeros_for_empty_prompt: bool | _Optional = UNSET
    advice: _Advice | _Optional = UNSET
    preview: _Preview | _Optional = UNSET


class _Tensor(Struct):
    name: _Name
    shape: Annotated[list[_Positive], Meta(min_length=1, max_length=LIMITS.rank)]
    dtype: Literal["float16", "float32", "int32"]


class _NetworkFile(Struct):
    path: str
    target: str
    inputs: list[_Name]
    outputs: list[_Name]
    weight_bytes: _Bytes | _Optional = UNSET


class _Component(Struct):
    inputs: list[_Tensor]
    outputs: list[_Tensor]
    files: Annotated[list[_NetworkFile], Meta(min_length=1)]


class _SchedulerStep(Struct):
    path: str
    target: Literal["tflite"]
    inputs: list[_Name]
    outputs: list[_Name]
    weights: list[_Name]
    memory: dict[str, Annotated[int, Meta(ge=0, le=LIMITS.steps)]]


class _Listed(Struct):
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    bytes: _Bytes


class _Model(Struct):
    name: str
    family: str
    sha256: str
    config_digest: str


class _Manifest(Struct):
    pipeline: _Pipeline
    config: dict[str, Any]
    model: _Model
    components: Annotated[dict[str, Any], Meta(min_length=1)]
    files: Annotated[dict[str, Any], Meta(min_length=1, max_length=LIMITS.files)]
    scheduler_step: _SchedulerStep | _Optional = UNSET
    notes: list[str] | _Optional = UNSET


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Refuse a manifest of another form, or whose values do not fit together.

    Raises:
        UserError: names the key.
    """
    whole = _converted(manifest, _Manifest, "")
    _check_pipeline(whole.pipeline)
    listed = {
        name: _converted(entry, _Listed, f"files.{name}") for name, entry in whole.files.items()
    }
    for name in listed:
        _require(stays_inside(name), f"files.{name}", "leads out of the bundle")
    for name in (VOCAB_NAME, MERGES_NAME):
        _require(name in listed, f"files.{name}", "missing")
    for name, value in whole.components.items():
        place = f"components.{name}"
        _check_component(_converted(value, _Component, place), place, listed)
    if whole.scheduler_step is not UNSET:
        path = whole.scheduler_step.path
        _require(path in listed, "scheduler_step.path", f"{path} is not among the files")


def with_defaults(manifest: dict[str, Any]) -> dict[str, Any]:
    """A checked manifest with what generation takes where it says nothing."""
    pipeline = {"shift_factor": 0.0, **manifest["pipeline"]}
    if "tokenizer_2" in pipeline:
        pipeline.setdefault("zeros_for_empty_prompt", False)
    advice = {**_ADVICE, **pipeline.get("advice", {})}
    return {"notes": [], **manifest, "pipeline": {**pipeline, "advice": advice}}


def is_listed(path: str, files: Mapping[str, Any]) -> bool:
    """Whether a network's file, or something in its folder, is among a bundle's files."""
    return path in files or any(name.startswith(f"{path}/") for name in files)


def _converted(value: Any, kind: type, place: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, at = str(error).partition(" - at `$")
        place = f"{place}{at.rstrip('`')}".removeprefix(".")
        if lacking := re.match(r"Object missing required field `(\w+)`", reason):
            place, reason = f"{place}.{lacking[1]}".removeprefix("."), "missing"
        raise UserError(f"{place}: {reason}") from None


def _check_pipeline(facts: _Pipeline) -> None:
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
    two = facts.family == "stable-diffusion-xl"
    _require(not two or facts.tokenizer_2 is not UNSET, "pipeline.tokenizer_2", "missing")
    _check_scheduler(facts.scheduler)


def _check_scheduler(config: dict[str, Any]) -> None:
    place = "pipeline.scheduler"
    _require(isinstance(config.get("_class_name"), str), f"{place}._class_name", "no name")
    count = config.get("num_train_timesteps", 1000)
    fits = type(count) is int and 1 <= count <= LIMITS.train_timesteps
    _require(fits, f"{place}.num_train_timesteps", f"{count!r}: 1 to {LIMITS.train_timesteps}")
    for key, value in config.items():
        for number in _numbers(value):
            _require(abs(number) <= LIMITS.factor, f"{place}.{key}", f"{number} is too large")
        if isinstance(value, list):
            most = LIMITS.train_timesteps
            _require(len(value) <= most, f"{place}.{key}", f"more than {most} numbers")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, (int, float)):
        yield value


def _check_component(component: _Component, place: str, listed: Mapping[str, _Listed]) -> None:
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


def _check_chain(component: _Component, place: str) -> None:
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
