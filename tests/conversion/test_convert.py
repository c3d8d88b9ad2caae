"""Conversion end to end on tiny models: files written, executed, compared."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_sd.bundle import open_bundle
from coreml_sd.config import ConversionConfig, from_dict
from coreml_sd.conversion.convert import convert
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.errors import UserError
from coreml_sd.runtimes.mil import MilPackage

pytestmark = pytest.mark.usefixtures("quick_capture")


def checks(bundle: Any, component: str) -> dict[str, dict]:
    parity = bundle.components[component]["parity"]["coreml"]
    return {check["name"]: check for check in parity["checks"]}


def test_the_bundle_holds_what_apps_expect(sd1_bundle: Path) -> None:
    bundle = open_bundle(sd1_bundle)
    names = {p.name for p in sd1_bundle.iterdir()}
    assert names == {
        "manifest.json",
        "vocab.json",
        "merges.txt",
        "TextEncoder.mlpackage",
        "UnetChunk1.mlpackage",
        "UnetChunk2.mlpackage",
        "VAEDecoder.mlpackage",
        "VAEEncoder.mlpackage",
    }
    unet = bundle.components["unet"]
    assert [t["name"] for t in unet["inputs"]] == ["sample", "timestep", "encoder_hidden_states"]
    assert [t["name"] for t in unet["outputs"]] == ["noise_pred"]
    assert unet["inputs"][2]["shape"] == [2, 32, 1, 77]
    assert bundle.components["text_encoder"]["outputs"][0]["name"] == "last_hidden_state"
    assert bundle.pipeline["prediction_type"] == "epsilon"


def test_every_gate_was_reached_and_stored(sd1_bundle: Path) -> None:
    bundle = open_bundle(sd1_bundle)
    for name in bundle.components:
        assert all(check["passed"] for check in checks(bundle, name).values())
        gated = [check for check in checks(bundle, name).values() if check["gate"]]
        assert len(gated) == 4


def test_packages_say_what_they_are(sd1_bundle: Path) -> None:
    package = MilPackage(sd1_bundle / "UnetChunk1.mlpackage")
    metadata = package.metadata
    assert metadata["version"] and metadata["license"] and metadata["author"]
    assert metadata["com.github.coreml-sd.config"]
    assert all(package.descriptions().values())


def test_palettized_weights_are_six_bits(sd1_bundle: Path) -> None:
    stored = MilPackage(sd1_bundle / "UnetChunk1.mlpackage").weight_storage()
    palettes = [weight for weight in stored if weight.kind == "constexpr_lut_to_dense"]
    assert palettes and {weight.bits for weight in palettes} == {6}


def test_the_stored_config_reproduces_the_bundle(sd1_bundle: Path, tmp_path: Path) -> None:
    first = open_bundle(sd1_bundle)
    again = convert(from_dict(first.manifest["config"]), tmp_path / "again.bundle", verify=False)
    assert again.manifest["config"] == first.manifest["config"]
    weights = [path for path in first.manifest["files"] if path.endswith("weight.bin")]
    assert len(weights) == 5
    for path in weights:
        assert again.manifest["files"][path] == first.manifest["files"][path]


@pytest.mark.parametrize(
    ("folder", "changes"),
    [
        ("short_sd2", {"attention": "split-einsum-v2", "min_os": "iOS16"}),
        ("short_sd2", {"attention": "original", "batch": 1}),
        ("short_sd2", {"attention": "sdpa", "min_os": "iOS18"}),
        (
            "short_sd2",
            {
                "palettize": 3,
                "min_os": "iOS18",
                "granularity": "per-grouped-channel",
                "group_size": 8,
            },
        ),
        ("sd2", {"palettize": 8, "min_os": "iOS16", "size": "24x16"}),
        ("sd2", {"palettize": 1, "chunks": "3"}),
    ],
    ids=lambda given: given if isinstance(given, str) else "-".join(map(str, given.values())),
)
def test_the_second_family_converts_in_every_form(
    request: pytest.FixtureRequest, tmp_path: Path, folder: str, changes: dict
) -> None:
    model = request.getfixturevalue(f"{folder}_folder")
    config = ConversionConfig(model=str(model), components=["unet"], **changes)
    bundle = convert(config, tmp_path / "b")
    assert all(check["passed"] for check in checks(bundle, "unet").values())
    assert bundle.pipeline["prediction_type"] == "v_prediction"


def test_auto_keeps_a_small_network_whole(short_folder: Path, tmp_path: Path) -> None:
    config = ConversionConfig(model=str(short_folder), components=["unet"])
    bundle = convert(config, tmp_path / "b", verify=False)
    assert [path.name for path in bundle.files("unet", "coreml")] == ["Unet.mlpackage"]
    assert bundle.components["unet"]["parity"] == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"palettize": 3}, "3-bit palettes need iOS18"),
        ({"palettize": 4, "granularity": "per-grouped-channel"}, "need iOS18"),
        ({"attention": "sdpa"}, "an op of iOS18"),
        ({"size": "20x16"}, "multiples of 8; the nearest is 16x16"),
        ({"model": "/nowhere/at-all"}, "no such folder"),
    ],
)
def test_what_cannot_be_had_is_refused_before_any_work(
    sd1_folder: Path, changes: dict, message: str
) -> None:
    config = dataclasses.replace(ConversionConfig(model=str(sd1_folder)), **changes)
    with pytest.raises(UserError, match=message):
        plan_conversion(config)


def test_too_many_chunks_are_refused(sd1_folder: Path, tmp_path: Path) -> None:
    config = ConversionConfig(model=str(sd1_folder), components=["unet"], chunks="500")
    with pytest.raises(UserError, match="choose at most"):
        convert(config, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_is_plain_json(sd1_bundle: Path) -> None:
    text = (sd1_bundle / "manifest.json").read_text()
    manifest = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert manifest["manifest_version"] == 1
    assert np.isclose(manifest["pipeline"]["scaling_factor"], 0.18215)


def test_the_seam_is_what_the_second_chunk_reads(sd1_bundle: Path) -> None:
    unet = open_bundle(sd1_bundle, check=False).components["unet"]
    (seam,) = unet["seams"]
    own = {tensor["name"] for tensor in unet["inputs"]}
    assert {*seam["tensors"]} == {*unet["files"][1]["inputs"]} - own
    assert {*seam["tensors"]} <= {*unet["files"][0]["outputs"]}
