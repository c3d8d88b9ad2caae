"""What a conversion is planned to do is what its config asks for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coreml_sd.compress.supported import PaletteSpec
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.facts import model_facts
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.errors import UserError
from coreml_sd.manifest.form import NetworkFile
from coreml_sd.targets.coreml.facts import package_facts
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.tflite.settings import settings_of


def plan_of(folder: Path, **knobs: Any) -> Plan:
    return plan_conversion(ConversionConfig(model=str(folder), **knobs))


def test_palettes_are_as_asked(sd1_folder: Path) -> None:
    grouped = {"granularity": "per-grouped-channel", "group_size": 8, "min_os": "iOS18"}
    plan = plan_of(sd1_folder, palettize=4, **grouped)
    assert plan.palettes == PaletteSpec(4, "per-grouped-channel", 8)
    assert plan_of(sd1_folder, palettize=6).palettes == PaletteSpec(6)
    assert plan_of(sd1_folder).palettes is None


def test_tflite_is_quantized_as_asked(sd1_folder: Path) -> None:
    pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

    def quantization(**knobs: Any) -> str:
        plan = plan_of(sd1_folder, targets=["tflite"], **knobs)
        settings = settings_of(plan)
        assert plan.palettes is None
        assert settings.quantization_of("vae_decoder") in ("fp32", "fp16")
        return settings.quantization_of("unet")

    assert quantization(quantize="int8") == "int8" != quantization(quantize="fp16")
    assert (
        quantization(palettize=6) == "int8" and quantization(palettize=6, quantize="fp16") == "fp16"
    )
    assert quantization(quantize="dynamic-int8", android_profile="cpu") == "dynamic-int8"
    with pytest.raises(UserError, match="rounds activations on the CPU only"):
        quantization(quantize="dynamic-int8")


def test_a_fraction_out_of_range_is_refused_before_the_model_is_opened() -> None:
    with pytest.raises(UserError, match="prune"):
        plan_of(Path("/nowhere/at-all"), prune=0.9)


def test_the_manifest_says_which_model_it_is(sd1_folder: Path) -> None:
    plan = plan_of(sd1_folder)
    source = dataclasses.replace(plan.model.source, revision="abc")
    model = dataclasses.replace(plan.model, source=source)
    facts = model_facts(dataclasses.replace(plan, model=model), "digest")
    assert (facts.revision, facts.sha256) == ("abc", "digest")
    assert facts.config_digest == plan.config.digest


def test_a_file_says_what_it_reads_and_gives() -> None:
    network: Any = SimpleNamespace(inputs=("a", "b"), outputs=("c",))
    package: Any = SimpleNamespace(path=Path("folder/Unet.mlpackage"), weight_bytes=lambda: 7)
    file = NetworkFile("Unet.mlpackage", "coreml", ["a", "b"], ["c"], 7)
    assert package_facts(package, network) == file
