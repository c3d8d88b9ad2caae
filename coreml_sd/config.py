"""The conversion config: what each knob means, its default and its check (flags and TOML)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coreml_sd.compress.supported import require_prune_fraction
from coreml_sd.errors import UserError, named
from coreml_sd.files.foreign import read_text
from coreml_sd.files.limits import LIMITS
from coreml_sd.models.checkpoints.families import FAMILIES
from coreml_sd.models.folder.few_step_unets import is_few_step_unet
from coreml_sd.models.picture_size import parse_size, whole_number

ATTENTIONS = ("split-einsum", "split-einsum-v2", "original", "sdpa")
BITS = (1, 2, 3, 4, 6, 8)
GRANULARITIES = ("per-tensor", "per-grouped-channel")
MIN_OS = ("iOS16", "iOS17", "iOS18")
TARGETS = ("coreml", "tflite")
ANDROID_PROFILES = ("cpu", "gpu", "adreno7xx", "adreno6xx", "mali")
QUANTIZATIONS = ("fp32", "fp16", "int8", "dynamic-int8")
CHECKPOINTS = tuple(FAMILIES)
COMPONENTS = ("text_encoder", "text_encoder_2", "unet", "vae_decoder", "vae_encoder")


def _knob(
    section: str, default: Any, help: str, choices: tuple[Any, ...] | None = None
) -> Any:  # dataclasses.field is typed by its default, which differs per knob
    metadata = {"section": section, "help": help, "choices": choices}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ConversionConfig:
    """One description of a conversion, read by every target.

    Each field is one knob: `section` is its place in the TOML file ("" = top level) and `help`
    is the text of its flag. `None` means "the model's own value" and is filled in by `resolved`.
    """

    model: str = _knob(
        "",
        "demo",
        "Diffusers folder, .safetensors file, hub id, `demo` (built in), `md` or `md-lite` (random "
        "weights).",
    )
    revision: str | None = _knob("", None, "Revision of a hub model (branch, tag or commit).")
    variant: str | None = _knob(
        "", None, "Variant of the weight files, such as fp16 (omit for the plain ones)."
    )
    family: str | None = _knob(
        "", None, "Family of a single file (omit to tell it from its tensors).", CHECKPOINTS
    )
    targets: list[str] = _knob("", ["coreml"], "What to write.", TARGETS)
    components: list[str] | None = _knob(
        "", None, "Networks to convert (omit for all that the model has).", COMPONENTS
    )

    size: str | None = _knob("shape", None, "Picture size HEIGHTxWIDTH in pixels.")
    batch: int = _knob(
        "shape", 2, "UNet batch: 2 runs both halves of guidance at once, 1 saves memory.", (1, 2)
    )

    attention: str = _knob("mobile", "split-einsum", "Form of the attention.", ATTENTIONS)

    palettize: int | None = _knob("compress", None, "Bits per weight (omit for fp16).", BITS)
    granularity: str = _knob(
        "compress", "per-tensor", "One palette per tensor or per group of channels.", GRANULARITIES
    )
    group_size: int = _knob("compress", 16, "Channels that share a palette (per-grouped-channel).")
    prune: float | None = _knob(
        "compress", None, "Part of the UNet's weights to take out as whole channels, up to 0.4."
    )

    min_os: str = _knob("coreml", "iOS17", "Oldest system that must load the files.", MIN_OS)
    chunks: str = _knob("coreml", "auto", "UNet pieces: a number, or `auto` (files under 1 GB).")

    android_profile: str = _knob(
        "tflite", "gpu", "Kind of device the files are made for.", ANDROID_PROFILES
    )
    quantize: str | None = _knob(
        "tflite", None, "Weights of the text encoder and UNet (omit for the profile's).",
        QUANTIZATIONS,
    )  # fmt: skip

    def __post_init__(self) -> None:
        for knob in dataclasses.fields(self):
            _check_choice(knob, getattr(self, knob.name))
        if self.size is not None:
            parse_size(self.size)
        if self.chunks != "auto" and not 1 <= whole_number(self.chunks) <= LIMITS.layers:
            raise UserError(f"chunks = {self.chunks!r}: give a number from 1, or auto")
        if not 1 <= self.group_size <= LIMITS.width:
            raise UserError(f"group_size = {self.group_size}: give a number from 1")
        if self.prune is not None:
            require_prune_fraction(self.prune)
        for name in ("targets", "components"):
            if getattr(self, name) == []:
                raise UserError(f"{name} is empty: name at least one")

    def merged(self, overrides: Mapping[str, Any]) -> ConversionConfig:
        """This config with every override that is not None in place (flags win over a file)."""
        given = {name: value for name, value in overrides.items() if value is not None}
        return dataclasses.replace(self, **given)

    def to_dict(self) -> dict[str, Any]:
        """Nested by TOML section, `None` left out; `from_dict` reads it back."""
        result: dict[str, Any] = {}
        for knob in dataclasses.fields(self):
            value = getattr(self, knob.name)
            if value is None:
                continue
            section = knob.metadata["section"]
            (result.setdefault(section, {}) if section else result)[knob.name] = value
        return result

    def to_toml(self) -> str:
        """The config as a TOML file that reproduces it."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    @property
    def digest(self) -> str:
        """Short hash of the config, stored in every file made from it."""
        canonical = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def from_dict(tree: Mapping[str, Any], origin: str = "config") -> ConversionConfig:
    """Build a config from a nested mapping.

    Raises:
        UserError: an unknown section or key, or a value of the wrong type or range.
    """
    knobs = {knob.name: knob for knob in dataclasses.fields(ConversionConfig)}
    sections = {knob.metadata["section"] for knob in knobs.values()} - {""}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        entries = value if key in sections and isinstance(value, Mapping) else {key: value}
        section = key if entries is value else ""
        for name, entry in entries.items():
            knob = knobs.get(name)
            if knob is None or knob.metadata["section"] != section:
                place = f"[{section}] {name}" if section else name
                raise UserError(f"{origin}: unknown key {place}; known: {_known_keys()}")
            values[name] = _typed(knob, entry, origin)
    with named(origin):
        return ConversionConfig(**values)


def from_toml(path: Path) -> ConversionConfig:
    """Read a config file.

    Raises:
        UserError: the file is missing, is not TOML, or holds an unknown or wrong value.
    """
    try:
        tree = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        raise UserError(f"{path}: not a TOML file ({error})") from None
    return from_dict(tree, origin=str(path))


def _check_choice(knob: dataclasses.Field[Any], value: Any) -> None:
    choices = knob.metadata["choices"]
    if choices is None or value is None:
        return
    for item in value if isinstance(value, list) else [value]:
        is_further = knob.name == "components" and is_few_step_unet(item)
        if item not in choices and not is_further:
            allowed = ", ".join(str(choice) for choice in choices)
            raise UserError(f"{knob.name} = {item}: choose from {allowed}")


def _typed(knob: dataclasses.Field[Any], value: Any, origin: str) -> Any:
    """Accept TOML's natural spellings (chunks = 2) and refuse the rest."""
    annotation = str(knob.type)
    if annotation.startswith("list"):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
    elif annotation.startswith("int"):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif annotation.startswith("float"):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    raise UserError(f"{origin}: {knob.name} = {value!r} is not of type {annotation}")


def _known_keys() -> str:
    return ", ".join(
        f"[{knob.metadata['section']}] {knob.name}" if knob.metadata["section"] else knob.name
        for knob in dataclasses.fields(ConversionConfig)
    )
