"""Swift and Python draw the same picture from the same bundle of Stable Diffusion XL."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from coreml_sd.metrics import psnr_db
from tests.swift.test_end_to_end import python_pixels, swift_pixels


@pytest.mark.parametrize(
    ("prompt", "negative_prompt", "guidance"),
    [("a cat! wow", "dog!!", 15.0), ("a cat", "", 15.0), ("a cat", "dog", 1.0)],
    ids=["both prompts", "no negative prompt", "no guidance"],
)
def test_the_same_picture(
    prompt: str,
    negative_prompt: str,
    guidance: float,
    coreml_sd_run: Path,
    swift_environment: dict[str, str],
    xl_tflite_bundle: Path,
    tmp_path: Path,
) -> None:
    request = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "seed": 3,
        "guidance": guidance,
        "steps": 4,
        "scheduler": "euler",
    }
    swift = swift_pixels(
        coreml_sd_run, swift_environment, xl_tflite_bundle, tmp_path / "s.png", **request
    )
    python = python_pixels(xl_tflite_bundle, **request)
    assert np.abs(swift - python).max() <= 1 and psnr_db(python, swift) > 60
    other = python_pixels(xl_tflite_bundle, **{**request, "prompt": "dog wow dog"})
    assert psnr_db(other, swift) < 60  # the comparison can fail


def test_another_family_is_refused(
    coreml_sd_run: Path, swift_environment: dict[str, str], xl_tflite_bundle: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(xl_tflite_bundle, tmp_path / "copy.bundle"))
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["pipeline"]["family"] = "stable-diffusion-3"
    # A manifest that tells its denoiser is drawn, whatever its family is called.
    del manifest["pipeline"]["denoiser"], manifest["manifest_sha256"]
    path.write_text(json.dumps(manifest), "utf-8")
    command = [str(coreml_sd_run), "a cat", "--bundle", str(copy), "--backend", "litert"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "x.png")],
        env=swift_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert 'family is "stable-diffusion-3"' in done.stderr and "stable-diffusion-xl" in done.stderr
