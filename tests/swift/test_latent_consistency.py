"""Swift and Python draw the same from a latent consistency model, which is told the guidance."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny_tflite import TinyFiles
from tests.swift.test_end_to_end import python_pixels, swift_pixels


@pytest.fixture(scope="module")
def bundle(tiny_files: TinyFiles, lcm_folder: Path) -> Path:
    return tiny_files.bundle("lcm-tflite", lcm_folder, targets=["tflite"])


def test_the_same_picture(
    bundle: Path, coreml_sd_run: Path, swift_environment: dict[str, str], tmp_path: Path
) -> None:
    request = {"prompt": "a cat", "seed": 3, "guidance": 7.0, "steps": 3, "scheduler": "lcm"}
    swift = swift_pixels(coreml_sd_run, swift_environment, bundle, tmp_path / "s.png", **request)
    assert np.abs(swift - python_pixels(bundle, **request)).max() <= 1
    for change in ({"guidance": 2.0}, {"seed": 4}):  # the comparison can fail
        assert np.abs(swift - python_pixels(bundle, **{**request, **change})).max() > 1
