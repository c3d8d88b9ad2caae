"""Flags made from the knobs of the conversion config, so that both always agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from coreml_sd.config import ConversionConfig, from_toml

_POSITIONAL = ("model",)
_LISTS = ("targets", "components")
_FLAG_NAMES = {"targets": "target"}
_Function = Callable[..., Any]


def config_options(function: _Function) -> _Function:
    """Add one option per knob; each is None where the user gave none."""
    for knob in reversed(dataclasses.fields(ConversionConfig)):
        if knob.name not in _POSITIONAL:
            function = _option(knob)(function)
    return function


def config_from_flags(
    model: str | None, file: Path | None, flags: dict[str, Any]
) -> ConversionConfig:
    """The config of a file (or the defaults) with the flags on top.

    Raises:
        UserError: an unknown or wrong value in the file or the flags.
    """
    overrides = {name: flags[name] for name in _knob_names() if name in flags}
    for name in _LISTS:
        if overrides.get(name) is not None:
            overrides[name] = [item.strip() for item in overrides[name].split(",") if item.strip()]
    base = from_toml(file) if file else ConversionConfig()
    return base.merged({**overrides, "model": model})


def _knob_names() -> list[str]:
    return [knob.name for knob in dataclasses.fields(ConversionConfig)]


def _option(knob: dataclasses.Field[Any]) -> Callable[[_Function], _Function]:
    flag = "--" + _FLAG_NAMES.get(knob.name, knob.name).replace("_", "-")
    text = str(knob.metadata["help"])
    choices = knob.metadata["choices"]
    default = None if knob.default is dataclasses.MISSING else knob.default
    kind: Any = str
    if knob.name in _LISTS:
        text += f" Comma-separated: {', '.join(choices)}."
    elif choices is not None:
        metavar = "|".join(str(choice) for choice in choices)
        kind = int if isinstance(choices[0], int) else str
        return click.option(
            flag, knob.name, type=kind, metavar=f"[{metavar}]", help=_with_default(text, default)
        )
    elif isinstance(default, int):
        kind = int
    elif str(knob.type).startswith("float"):
        kind = float
    return click.option(flag, knob.name, type=kind, help=_with_default(text, default))


def _with_default(text: str, default: Any) -> str:
    return text if default is None else f"{text} [default: {default}]"
