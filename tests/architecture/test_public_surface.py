"""The public interface: four names of `coreml_sd`, their signatures and their types."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, assert_type

import pytest

import coreml_sd
from coreml_sd.bundle import Bundle
from coreml_sd.config import ConversionConfig
from coreml_sd.generation.generate import GeneratedImage

# Whoever changes one of these breaks a program of somebody: say so in CHANGELOG.md.
SIGNATURES = {
    "convert": "(config: 'ConversionConfig', destination: 'Path', *, overwrite: 'bool' = False, "
    "verify: 'bool' = True, progress: 'Progress | None' = None, jobs: 'int | None' = None, "
    "memory: 'int | None' = None, resume: 'bool' = True) -> 'Bundle'",
    "generate": "(prompt: 'str', bundle: 'Bundle | Path', *, runtime: 'str' = 'auto', "
    "negative_prompt: 'str' = '', steps: 'int | None' = None, guidance: 'float | None' = None, "
    "seed: 'int' = 0, scheduler: 'str | None' = None, on_step: 'StepReport | None' = None) "
    "-> 'GeneratedImage'",
    "open_bundle": "(path: 'Path', *, check: 'bool' = True) -> 'Bundle'",
}
KNOBS = {
    "model", "revision", "variant", "targets", "components", "size", "batch", "attention",
    "palettize", "granularity", "group_size", "prune", "min_os", "chunks", "android_profile",
    "quantize",
}  # fmt: skip


def changed(name: str, function: Callable[..., Any]) -> bool:
    return str(inspect.signature(function)) != SIGNATURES[name]


def test_these_names_are_public() -> None:
    assert set(coreml_sd.__all__) == {*SIGNATURES, "ConversionConfig"}
    assert set(coreml_sd.__all__) <= set(dir(coreml_sd))
    assert coreml_sd._HOMES.keys() == set(coreml_sd.__all__)
    for name, module in coreml_sd._HOMES.items():
        assert getattr(coreml_sd, name).__module__ == module


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_stay(name: str) -> None:
    assert not changed(name, getattr(coreml_sd, name))


def test_a_changed_signature_is_noticed() -> None:
    def open_bundle(path: Path, *, check: bool = False) -> Bundle:
        raise NotImplementedError

    assert changed("open_bundle", open_bundle)


def test_every_knob_stays() -> None:
    assert set(inspect.signature(coreml_sd.ConversionConfig).parameters) >= KNOBS


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'convrt'"):
        _ = coreml_sd.convrt


def used(folder: Path) -> None:
    """Never called: mypy holds the types against those that are said here."""
    config = assert_type(coreml_sd.ConversionConfig(model="demo"), ConversionConfig)
    bundle = assert_type(coreml_sd.convert(config, folder), Bundle)
    assert_type(coreml_sd.open_bundle(folder), Bundle)
    assert_type(coreml_sd.generate("a cat", bundle), GeneratedImage)
