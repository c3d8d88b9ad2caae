"""One component against its source: what it lacks fails, whatever the bundle says of itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from coreml_sd.bundle import open_bundle, write_manifest
from coreml_sd.config import from_dict
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.parity.checks import ComponentParity
from coreml_sd.progress import Silent
from coreml_sd.report import measure as measuring
from coreml_sd.targets.coreml.compare import chained_equals_whole
from tests.helpers.weight_records import UINT8, one_bit

PROGRAM = "TextEncoder.mlpackage/Data/com.apple.CoreML/model.mlmodel"


@pytest.fixture
def copy(sd1_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd1_bundle, tmp_path / "copy.bundle"))


def compare(path: Path, component: str) -> ComponentParity:
    bundle = open_bundle(path)
    plan = plan_conversion(from_dict(bundle.manifest["config"], "manifest.json"))
    _, (result,) = measuring._component(plan, bundle, plan.model.component(component), Silent())
    return result


def failed(result: ComponentParity) -> list[str]:
    return [check.name for check in result.checks if not check.passed]


def edit(path: Path, change: Any) -> None:
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    change(manifest["components"])
    write_manifest(path, manifest)


def remove_output(path: Path, name: str) -> None:
    """Take an output out of the text encoder's package, its description and the manifest."""
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model.FromString((path / PROGRAM).read_bytes())
    kept = [feature for feature in spec.description.output if feature.name != name]
    del spec.description.output[:]
    spec.description.output.extend(kept)
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    outputs = [each for each in block.outputs if each != name]
    del block.outputs[:]
    block.outputs.extend(outputs)
    (path / PROGRAM).write_bytes(spec.SerializeToString(deterministic=True))

    def change(components: Any) -> None:
        entry = components["text_encoder"]
        entry["files"][0]["outputs"].remove(name)
        entry["outputs"] = [each for each in entry["outputs"] if each["name"] != name]

    edit(path, change)


def test_an_intact_component_passes(sd1_bundle: Path) -> None:
    result = compare(sd1_bundle, "text_encoder")
    assert result.passed and len(result.checks) == 7


def test_an_output_that_was_taken_out_fails(copy: Path) -> None:
    remove_output(copy, "pooled_outputs")
    assert failed(compare(copy, "text_encoder")) == [
        "file in fp32 against torch, 6-bit weights",
        "file in fp16 against torch, 6-bit weights",
        "facts of the manifest: differences",
    ]


def test_files_in_another_order_are_not_executed(copy: Path) -> None:
    edit(copy, lambda components: components["unet"].update(files=components["unet"]["files"][:1]))
    result = compare(copy, "unet")
    assert not result.passed and result.label == "not executed"
    assert "UnetChunk1.mlpackage, UnetChunk2.mlpackage should be" in result.checks[-1].detail


@pytest.mark.parametrize(
    "change",
    [
        lambda components: components["vae_decoder"].update(source_bytes=1),
        lambda components: components["vae_decoder"]["files"][0].update(weight_bytes=1),
        lambda components: components["vae_decoder"]["weights"][3].update(snr_db=99.0),
        lambda components: components["vae_decoder"]["inputs"][0].update(dtype="float32"),
        lambda components: components["vae_decoder"].update(weights=[]),
    ],
)
def test_a_changed_fact_of_a_component_fails(copy: Path, change: Any) -> None:
    edit(copy, change)
    assert failed(compare(copy, "vae_decoder")) == ["facts of the manifest: differences"]


def test_chunks_of_another_network_are_not_the_whole(sd1_bundle: Path, tmp_path: Path) -> None:
    """One index of one weight: a chain that is compared with itself would not show it."""
    plan = plan_conversion(from_dict(open_bundle(sd1_bundle).manifest["config"], "x"))
    inputs = plan.model.component("vae_decoder").sample_inputs(0)
    whole = sd1_bundle / "VAEDecoder.mlpackage"
    other = one_bit(whole, tmp_path, UINT8)
    assert chained_equals_whole(inputs, [whole], whole).passed
    assert not chained_equals_whole(inputs, [other], whole).passed
