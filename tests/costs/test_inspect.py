"""`coreml-sd inspect`: every target of a bundle, from its files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="the extra `android` is not installed")

from coreml_sd.bundle import write_manifest
from tests.helpers.build_tflite import GraphWriter
from tests.helpers.command import Run, runner
from tests.helpers.tiny_bundle import manifest, write_files

SPLIT = {
    "name": "up.conv1", "channels_in": 1920, "channels_out": 640, "height": 32, "width": 32,
    "along": "input", "parts": [960, 960],
}  # fmt: skip


run = pytest.fixture(runner)


def entry() -> dict[str, Any]:
    """What the manifest says of a UNet for Android."""
    names: dict[str, Any] = {"inputs": [], "outputs": []}
    file = {"path": "Unet.tflite", "target": "tflite", "quantization": "fp32", **names}
    given = {"name": "x", "shape": [1, 4, 4, 8], "dtype": "float32", "description": ""}
    kept = {"splits": [SPLIT], "seams": [], "weights": []}
    return {"inputs": [given], "outputs": [], "files": [file], **kept}


def write_file(path: Path) -> None:
    """A 1x1 convolution of 8 to 16 channels."""
    graph = GraphWriter()
    weight = graph.constant(np.linspace(-1, 1, 128).reshape(16, 1, 1, 8))
    x = graph.input((1, 4, 4, 8))
    out = graph.op("CONV_2D", [x, weight], (1, 4, 4, 16), name="n.N/a.Conv2d_mid;")
    graph.write(path, [out])


@pytest.fixture
def android(tmp_path: Path) -> Path:
    """A bundle for Android alone."""
    path = tmp_path / "android.bundle"
    path.mkdir()
    write_files(path)
    write_file(path / "Unet.tflite")
    facts = manifest(unet="Unet.tflite")
    facts["components"]["unet"] |= entry()
    write_manifest(path, facts)
    return path


def test_a_bundle_for_android_alone(run: Run, android: Path) -> None:
    facts = json.loads(run("inspect", android, "--json").out)
    (form,) = facts["components"]["unet"].items()
    name, unet = form
    assert (name, unet["files"], unet["quantization"]) == ("tflite", ["Unet.tflite"], ["fp32"])
    assert (unet["parameters"], unet["macs"], unet["ops"]) == (128, 16 * 128, {"CONV_2D": 1})
    assert unet["peak_bytes"] == 4 * (128 + 16 * 8 + 16 * 16)
    assert unet["splits"] == [SPLIT]
    weight = {"name": "mid", "kind": "float32", "bits": 32, "stored_bytes": 512}
    assert unet["largest"] == [{**weight, "shape": [16, 1, 1, 8]}]
    text = run("inspect", android).out
    assert "split up.conv1: 1920 to 640 channels at 32x32, input 960 + 960" in text
    assert "mid 16x1x1x8 (128), 32 bits (float32)" in text


def test_both_targets_side_by_side(run: Run, sd1_bundle: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(sd1_bundle, tmp_path / "both.bundle"))
    facts = json.loads((path / "manifest.json").read_text())
    write_file(path / "Unet.tflite")
    unet = facts["components"]["unet"]
    unet["files"] += entry()["files"]
    unet["splits"] = []
    write_manifest(path, facts)
    components = json.loads(run("inspect", path, "--json").out)["components"]
    assert list(components["unet"]) == ["coreml", "tflite"]
    assert list(components["vae_decoder"]) == ["coreml"]
    assert components["unet"]["coreml"]["palettes"]["weights"] > 20
    assert components["unet"]["tflite"]["parameters"] == 128


def test_a_damaged_file_is_refused_in_one_line(run: Run, android: Path) -> None:
    file = android / "Unet.tflite"
    file.write_bytes(file.read_bytes()[:400])
    assert "Unet.tflite: changed" in run("inspect", android).err
    write_manifest(android, json.loads((android / "manifest.json").read_text()))
    done = run("inspect", android)
    errors = [line for line in done.err.splitlines() if line.startswith("Error:")]
    assert done.status == 2 and "Traceback" not in done.err
    assert len(errors) == 1 and "Unet.tflite: damaged" in errors[0]
