"""What a denoiser is told beside the prompt: diffusers' own numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_sd.models.denoiser import guidance_embedding

FIXTURES = Path(__file__).parents[1] / "fixtures"
GOLDEN: dict[str, dict[str, Any]] = json.loads(
    (FIXTURES / "guidance_embedding.json").read_text("utf-8")
)


@pytest.mark.parametrize("golden", [pytest.param(each, id=name) for name, each in GOLDEN.items()])
def test_the_guidance_is_embedded_as_diffusers_does_it(golden: dict[str, Any]) -> None:
    told = guidance_embedding(golden["guidance"], golden["width"])
    assert told.shape == (golden["width"],) and told.dtype == np.float32
    # diffusers rounds the logarithm of the longest period to fp32.
    np.testing.assert_allclose(told, golden["embedding"], atol=2e-4)
    another = guidance_embedding(golden["guidance"] + 0.01, golden["width"])
    assert np.abs(another - golden["embedding"]).max() > 2e-3


def test_an_odd_width_ends_with_zero() -> None:
    assert guidance_embedding(3.0, 9).tolist() == [*guidance_embedding(3.0, 8).tolist(), 0.0]
    assert guidance_embedding(1.0, 2).tolist() == [0.0, 1.0]
