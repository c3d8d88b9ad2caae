"""`coreml-sd lint`: what it prints, and its exit statuses."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from coreml_sd.bundle import new_bundle, write_manifest
from tests.helpers.build_tflite import GraphWriter
from tests.helpers.command import Run, runner
from tests.helpers.tiny_bundle import manifest, write_files

SHAPE = (1, 4, 4, 8)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`coreml-sd lint`."""
    return functools.partial(runner(monkeypatch, capfd), "lint")


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
        write_files(staging)
        write_manifest(staging, manifest(unet="Unet.tflite", vae_decoder="VAEDecoder.tflite"))
    return path


def test_a_clean_file_gives_nothing(run: Run, tmp_path: Path) -> None:
    done = run(write(tmp_path / "clean.tflite", "TANH"))
    assert done.status == 0, done.err
    assert done.out.splitlines()[-1].endswith("0 errors, 0 warnings, 0 notes")


def test_an_error_is_shown_once_with_its_count_and_gives_status_1(run: Run, tmp_path: Path) -> None:
    done = run(write(tmp_path / "net.tflite", "BROADCAST_TO", "BROADCAST_TO"))
    assert done.status == 1, done.err
    assert done.out.count("tflite/broadcast-to") == 1
    assert "BROADCAST_TO #0" in done.out and "and 1 more" in done.out
    assert "To do:" in done.out and "2 errors" in done.out


def test_a_warning_gives_status_0(run: Run, tmp_path: Path) -> None:
    done = run(write(tmp_path / "net.tflite", epsilon=1e-12))
    assert done.status == 0, done.err
    assert "tflite/fp16-underflow" in done.out and "1 warning" in done.out


def test_the_profile_of_the_bundle_is_the_default(run: Run, bundle: Path) -> None:
    done = run(bundle)
    assert done.status == 0, done.err
    assert "0 errors, 0 warnings" in done.out
    assert run(bundle, "--android-profile", "gpu").status == 1


def test_json_holds_every_finding(run: Run, bundle: Path) -> None:
    done = run(bundle, "--android-profile", "mali", "--json")
    assert done.status == 1
    report = json.loads(done.out)
    assert report["android_profile"] == "mali"
    assert report["counts"] == {"error": 2, "warning": 1, "note": 0}
    assert [(each["file"], each["rule"], each["op"]) for each in report["findings"]] == [
        ("Unet.tflite", "tflite/broadcast-to", "BROADCAST_TO #0"),
        ("Unet.tflite", "tflite/broadcast-to", "BROADCAST_TO #1"),
        ("VAEDecoder.tflite", "tflite/fp16-underflow", "ADD #1"),
    ]
    for each in report["findings"]:
        assert each["why"] and each["remedy"] and each["layer"]


def test_the_rules_are_listed(run: Run, tmp_path: Path) -> None:
    done = run("--rules")
    assert done.status == 0
    assert "tflite/broadcast-to" in done.out and "coreml/linear" in done.out


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
def test_a_mistake_is_named_with_status_2(
    run: Run, bundle: Path, prepare: Any, message: str
) -> None:
    done = run(*prepare(bundle))
    assert done.status == 2, done.out
    assert message in done.err and "Traceback" not in done.err


def test_a_converted_bundle_is_clean(run: Run, sd1_bundle: Path) -> None:
    """No error and no warning; the embedding of the tokens is a note."""
    done = run(sd1_bundle, "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert report["counts"] == {"error": 0, "warning": 0, "note": 1}
    (note,) = report["findings"]
    assert note["rule"] == "coreml/gather" and note["layer"] == "embeddings_token_embedding"
