"""Swift and Python draw the same with the UNets for few steps of one bundle."""

from pathlib import Path

import numpy as np
import pytest

from tests.swift.test_end_to_end import python_pixels, swift_pixels


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_the_same_picture(
    few_step_bundle: Path,
    coreml_sd_run: Path,
    swift_environment: dict[str, str],
    tmp_path: Path,
    steps: int,
) -> None:
    request = {"prompt": "a cat", "seed": 3, "guidance": 4.0, "steps": steps, "scheduler": "ddim"}
    swift = swift_pixels(
        coreml_sd_run, swift_environment, few_step_bundle, tmp_path / "s.png", **request
    )
    assert np.abs(swift - python_pixels(few_step_bundle, **request)).max() <= 1
    other = python_pixels(few_step_bundle, **{**request, "seed": 4})  # the comparison can fail
    assert np.abs(swift - other).max() > 1
