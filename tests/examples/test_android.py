"""The Android sample uses the names that the converter writes; the guide's table is the code's."""

import importlib.util
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coreml_sd.bundle import FORMAT, VERSION
from coreml_sd.config import ConversionConfig
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.open_model import open_model
from coreml_sd.schedulers.schedulers import NAMES
from coreml_sd.schedulers.settings import READ
from coreml_sd.targets.tflite.profiles import PROFILES

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples/android"
SOURCES = SAMPLE / "app/src/main/kotlin/coremlsd/sample"
MARK = "no Android toolchain on the machines"

# component -> the constants of Names.kt that are its inputs, and those of its outputs that are used
TENSORS = {
    "TEXT_ENCODER": (["INPUT_IDS"], ["LAST_HIDDEN_STATE"]),
    "UNET": (["SAMPLE", "TIMESTEP", "ENCODER_HIDDEN_STATES"], ["NOISE_PRED"]),
    "VAE_DECODER": (["Z"], ["IMAGE"]),
}


def source(name: str) -> str:
    return (SOURCES / f"{name}.kt").read_text(encoding="utf-8")


def constants(text: str) -> dict[str, str]:
    return dict(re.findall(r'const val (\w+) = "([^"]+)"', text))


def mismatches(names: dict[str, str], components: tuple[ComponentSpec, ...]) -> list[str]:
    """What the sample calls otherwise than the converter does."""
    specs = {spec.name: spec for spec in components}
    found = []
    for component, (inputs, outputs) in TENSORS.items():
        spec = specs.get(names[component])
        if spec is None:
            found.append(component)
            continue
        if {names[i] for i in inputs} != {tensor.name for tensor in spec.inputs}:
            found.append(f"inputs of {component}")
        if not {names[o] for o in outputs} <= {tensor.name for tensor in spec.outputs}:
            found.append(f"outputs of {component}")
    return found


def keys_of(value: Any) -> set[str]:
    """Every key at any depth of a JSON value."""
    if isinstance(value, dict):
        return set(value) | {key for entry in value.values() for key in keys_of(entry)}
    if isinstance(value, list):
        return {key for entry in value for key in keys_of(entry)}
    return set()


def manifest_keys(text: str) -> set[str]:
    return set(re.findall(r'\.(?:get|opt)\w+\("(\w+)"\)', text))


def test_signatures_and_tensors_are_the_converters() -> None:
    components = open_model(ConversionConfig(model="demo")).components
    names = constants(source("Names"))
    assert mismatches(names, components) == []
    assert importlib.util.find_spec(f"coreml_sd.targets.{names['TARGET']}")
    used = {name for component, (i, o) in TENSORS.items() for name in (component, *i, *o)}
    assert set(names) == used | {"TARGET"}


@pytest.mark.parametrize("name", ["UNET", "TIMESTEP", "LAST_HIDDEN_STATE", "IMAGE"])
def test_a_changed_name_is_found(name: str) -> None:
    components = open_model(ConversionConfig(model="demo")).components
    changed = {**constants(source("Names")), name: "other"}
    assert len(mismatches(changed, components)) == 1


def test_the_manifest_has_every_key_that_is_read(android_bundle: Callable[[int], Path]) -> None:
    held = keys_of(json.loads((android_bundle(2) / "manifest.json").read_text(encoding="utf-8")))
    added = json.loads((ROOT / "tests/fixtures/tokenizer_added.json").read_text(encoding="utf-8"))
    held |= keys_of({"tokenizer": added["facts"]})  # of a model with added words
    read = manifest_keys(source("Manifest"))
    assert {"pipeline", "files", "scaling_factor", "pad_token_id", "batch"} <= read <= held
    assert not manifest_keys('json.getInt("no_such_key")') <= held


def test_the_manifests_format_is_the_one_written_here() -> None:
    assert f'FORMAT = "{FORMAT}"' in source("Manifest")
    assert f"VERSION = {VERSION}\n" in source("Manifest")


@pytest.mark.parametrize("name", ["dpm++", "ddim", "pndm", "euler"])
def test_the_settings_that_a_scheduler_reads_are_pythons(name: str) -> None:
    """In the same order: of two that are wrong, the first is told."""
    text = source("Supported")
    maps = dict(
        re.findall(r"val (COMMON|SIGMAS) = linkedMapOf\((.*?)\n        \)", text, re.DOTALL)
    )
    line = re.search(rf'"{re.escape(name)}" to (COMMON.*?\))(?:,\n|\n)', text, re.DOTALL)
    assert line
    whole = re.sub("COMMON|SIGMAS", lambda found: maps[found[0]], line[1])
    assert re.findall(r'"(\w+)" to Type', whole) == list(READ[name])


def test_schedulers_go_by_our_names() -> None:
    (listed,) = re.findall(r"^val SCHEDULERS = listOf\((.*)\)$", source("Scheduler"), re.MULTILINE)
    offered = re.findall(r'"([^"]+)"', listed)
    assert len(offered) == 5 and set(offered) <= set(NAMES)
    page = (ROOT / "docs/schedulers.md").read_text(encoding="utf-8")
    told = re.search(r"The Kotlin sample has (.*?)\.", page, re.DOTALL)
    assert told and re.findall(r"`([^`]+)`", told[1]) == offered


def test_the_app_takes_the_runtime_that_is_tested_here() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ours = next(
        entry
        for entry in project["project"]["optional-dependencies"]["android"]
        if entry.startswith("ai-edge-litert ")
    )
    series = re.search(r">= (\d+\.\d+)", ours)
    gradle = (SAMPLE / "app/build.gradle.kts").read_text(encoding="utf-8")
    versions = re.findall(r'litert:litert(?:-gpu)?:(\d+\.\d+)\.\d+"', gradle)
    assert series and versions == [series[1]] * 2


def test_every_file_says_that_it_was_not_compiled_for_android() -> None:
    files = [
        *SOURCES.glob("*.kt"),
        *SAMPLE.rglob("*.gradle.kts"),
        *SAMPLE.rglob("AndroidManifest.xml"),
    ]
    assert len(files) >= 14
    unmarked = [f.name for f in files if MARK not in " ".join(f.read_text("utf-8")[:400].split())]
    assert unmarked == []
    assert MARK in " ".join((SAMPLE / "README.md").read_text("utf-8")[:400].split())


def test_the_guides_table_of_profiles_is_the_codes() -> None:
    guide = (ROOT / "docs/android.md").read_text(encoding="utf-8")
    rows = [re.split(r" *\| *", line.strip("| ")) for line in guide.splitlines() if "|" in line]
    table = {row[0].strip("`"): row[1:] for row in rows if row[0].strip("`") in PROFILES}
    for name, profile in PROFILES.items():
        winograd = profile.winograd
        assert table[name] == [
            profile.description,
            profile.accelerator.upper(),
            str(profile.quantization),
            str(profile.palettize_as),
            profile.gelu,
            f"{profile.image_limit:,}" if profile.image_limit else "none",
            f"{winograd.min_slices} / {winograd.min_tiles}" if winograd else "none",
        ]
