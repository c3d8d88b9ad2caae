"""What `coreml-sd-run` says when something is wrong: one line with the remedy, and its status."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.tiny_folder import change_json


@pytest.fixture
def copy(demo_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return Path(shutil.copytree(demo_bundle, tmp_path / "copy.bundle"))


def refused(tool: Path, environment: dict[str, str], *arguments: object, status: int = 2) -> str:
    """The one line that a failing command leaves."""
    command = [str(tool), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("coreml-sd-run:")]
    assert "Fatal" not in done.stderr
    return line


def test_a_changed_byte(
    coreml_sd_run: Path, swift_environment: dict[str, str], copy: Path, tmp_path: Path
) -> None:
    file = copy / "Unet.tflite"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    output = tmp_path / "x.png"
    line = refused(
        coreml_sd_run, swift_environment, "a cat", "--bundle", copy, "--backend", "litert",
        "-o", output,
    )  # fmt: skip
    assert "Unet.tflite has changed since the conversion" in line
    assert not output.exists()


def test_a_missing_file(coreml_sd_run: Path, swift_environment: dict[str, str], copy: Path) -> None:
    (copy / "VAEDecoder.tflite").unlink()
    line = refused(
        coreml_sd_run, swift_environment, "a cat", "--bundle", copy, "--backend", "litert"
    )
    assert "VAEDecoder.tflite is missing" in line


def test_a_vocabulary_that_makes_no_sense_under_a_right_checksum(
    coreml_sd_run: Path, swift_environment: dict[str, str], copy: Path
) -> None:
    """It has not changed since the conversion, and is not said to."""
    text = b"[1, 2]"
    (copy / "vocab.json").write_bytes(text)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["vocab.json"] = {
        "sha256": hashlib.sha256(text).hexdigest(),
        "bytes": len(text),
    }
    del manifest["manifest_sha256"]  # as in a bundle made by hand
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    line = refused(
        coreml_sd_run, swift_environment, "a cat", "--bundle", copy, "--backend", "litert"
    )
    assert "vocab.json cannot be used: it is no table" in line and "convert again" in line
    assert "changed since" not in line


def test_a_manifest_that_was_changed(
    coreml_sd_run: Path, swift_environment: dict[str, str], copy: Path
) -> None:
    change_json(copy / "manifest.json", notes=["another note"])
    line = refused(
        coreml_sd_run, swift_environment, "a cat", "--bundle", copy, "--backend", "litert"
    )
    assert "manifest.json has changed since the conversion" in line


def test_a_pipe_as_start_image(
    coreml_sd_run: Path, swift_environment: dict[str, str], demo_bundle: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "start.png")
    line = refused(
        coreml_sd_run, swift_environment, "a cat", "--bundle", demo_bundle, "--backend", "litert",
        "--start-image", tmp_path / "start.png",
    )  # fmt: skip
    assert "start.png: it is not a regular file; give a PNG file" in line


def test_a_newer_manifest(
    coreml_sd_run: Path, swift_environment: dict[str, str], copy: Path
) -> None:
    change_json(copy / "manifest.json", manifest_version=99)
    line = refused(
        coreml_sd_run, swift_environment, "a cat", "--bundle", copy, "--backend", "litert"
    )
    assert "manifest version 99" in line and "update this package" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "128x128"], "it has 64x64"),
        (["--steps", "0"], "steps 0"),
        (["--steps", "1001"], "from 1 to 1000"),
        (["--scheduler", "nope"], "choose from dpm++"),
        (["--scheduler", "flow-match-euler"], "trained with flow matching"),
        (["--backend", "coreml"], "no Core ML on this system"),
        (["--library", "/nowhere/libLiteRt.so"], "/nowhere/libLiteRt.so"),
        (["--start-image", "/nowhere.png"], "/nowhere.png"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_request_that_cannot_be_met(
    arguments: list[str],
    message: str,
    coreml_sd_run: Path,
    swift_environment: dict[str, str],
    demo_bundle: Path,
) -> None:
    assert message in refused(
        coreml_sd_run, swift_environment, "a cat", "--bundle", demo_bundle, *arguments
    )


def test_no_bundle(coreml_sd_run: Path, swift_environment: dict[str, str], tmp_path: Path) -> None:
    line = refused(coreml_sd_run, swift_environment, "a cat", "--bundle", tmp_path / "none")
    assert "not a bundle" in line and "coreml-sd convert" in line
