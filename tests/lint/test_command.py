"""`coreml-sd lint`: what it prints, and its exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from coreml_sd.bundle import new_bundle, write_manifest
from tests.lint.build_tflite import GraphWriter

SHAPE = (1, 4, 4, 8)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "coreml_sd.cli.main", "lint", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def write(path: Path, *kinds: str, epsilon: float = 1e-5) -> Path:
    """A chain of unary ops and an ADD of an epsilon."""
    graph = GraphWriter()
    last = graph.input(SHAPE)
    for kind in kinds:
        last = graph.op(kind, [last], SHAPE)
    last = graph.op("ADD", [last, graph.constant(np.float32(epsilon))], SHAPE)
    return graph.write(path, [last])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Two files; the profile of the config is cpu."""
    path = tmp_path / "two.bundle"
    with new_bundle(path) as staging:
        write(staging / "Unet.tflite", "BROADCAST_TO", "BROADCAST_TO", "TANH")
        write(staging / "VAEDecoder.tflite", "TANH", epsilon=1e-12)
        components = {
            name: {"files": [{"path": f"{file}.tflite", "target": "tflite"}]}
            for name, file in (("unet", "Unet"), ("vae_decoder", "VAEDecoder"))
        }
        config = {"tflite": {"android_profile": "cpu"}}
        write_manifest(
            staging, {"pipeline": {}, "components": components, "config": config, "model": {}}
        )
    return path


def test_a_clean_file_gives_nothing(tmp_path: Path) -> None:
    done = run(write(tmp_path / "clean.tflite", "TANH"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("0 errors, 0 warnings, 0 notes")


def test_an_error_is_shown_once_with_its_count_and_gives_status_1(tmp_path: Path) -> None:
    done = run(write(tmp_path / "net.tflite", "BROADCAST_TO", "BROADCAST_TO"))
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("tflite/broadcast-to") == 1
    assert "BROADCAST_TO #0" in done.stdout and "and 1 more" in done.stdout
    assert "To do:" in done.stdout and "2 errors" in done.stdout


def test_a_warning_gives_status_0(tmp_path: Path) -> None:
    done = run(write(tmp_path / "net.tflite", epsilon=1e-12))
    assert done.returncode == 0, done.stderr
    assert "tflite/fp16-underflow" in done.stdout and "1 warning" in done.stdout


def test_the_profile_of_the_bundle_is_the_default(bundle: Path) -> None:
    done = run(bundle)
    assert done.returncode == 0, done.stderr
    assert "0 errors, 0 warnings" in done.stdout
    assert run(bundle, "--android-profile", "gpu").returncode == 1


def test_json_holds_every_finding(bundle: Path) -> None:
    done = run(bundle, "--android-profile", "mali", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["android_profile"] == "mali"
    assert report["counts"] == {"error": 2, "warning": 1, "note": 0}
    assert [(each["file"], each["rule"], each["op"]) for each in report["findings"]] == [
        ("Unet.tflite", "tflite/broadcast-to", "BROADCAST_TO #0"),
        ("Unet.tflite", "tflite/broadcast-to", "BROADCAST_TO #1"),
        ("VAEDecoder.tflite", "tflite/fp16-underflow", "ADD #1"),
    ]
    for each in report["findings"]:
        assert each["why"] and each["remedy"] and each["layer"]


def test_the_rules_are_listed(tmp_path: Path) -> None:
    done = run("--rules")
    assert done.returncode == 0
    assert "tflite/broadcast-to" in done.stdout and "coreml/linear" in done.stdout


def change(bundle: Path) -> list[object]:
    (bundle / "Unet.tflite").write_bytes((bundle / "Unet.tflite").read_bytes()[:-1])
    return [bundle]


def cut(bundle: Path) -> list[object]:
    file = bundle / "Unet.tflite"
    file.write_bytes(file.read_bytes()[:100])
    return [file]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (change, "Unet.tflite: changed since the conversion"),
        (cut, "Unet.tflite: "),
        (lambda bundle: [], "name a bundle"),
        (lambda bundle: ["./nowhere.bundle"], "no such bundle"),
        (lambda bundle: ["./nowhere.tflite"], "no such file"),
        (lambda bundle: [bundle / "manifest.json"], "lint reads bundles"),
        (lambda bundle: [bundle.parent], "not a bundle"),
        (lambda bundle: [bundle, "--android-profile", "nokia"], "choose from cpu, gpu"),
    ],
)
def test_a_mistake_is_named_with_status_2(bundle: Path, prepare, message: str) -> None:
    done = run(*prepare(bundle))
    assert done.returncode == 2, done.stdout
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_converted_bundle_is_clean(sd1_bundle: Path) -> None:
    """No error and no warning; the embedding of the tokens is a note."""
    done = run(sd1_bundle, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["counts"] == {"error": 0, "warning": 0, "note": 1}
    (note,) = report["findings"]
    assert note["rule"] == "coreml/gather" and note["layer"] == "embeddings_token_embedding"
