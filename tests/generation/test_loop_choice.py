"""Which loop denoises: the runtime's own where there is one, which combines two rows; else ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coreml_sd.bundle import Bundle, open_bundle
from coreml_sd.generation.generate import GenerationRequest, Generator
from coreml_sd.runtimes.base import Array
from coreml_sd.runtimes.open_runtime import Runtime


class Network:
    """Any component of the demo, giving zeros."""

    def __init__(self) -> None:
        self.inputs = {"sample": SimpleNamespace(shape=(2,))}

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        if "input_ids" in inputs:
            return {"last_hidden_state": np.zeros((1, 77, 4), np.float32)}
        if "z" in inputs:
            return {"image": np.zeros((1, 3, 64, 64), np.float32)}
        return {"noise_pred": np.zeros_like(inputs["sample"])}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("guidance", "asked"), [("classifier-free", 1), ("embedded", 0)])
def test_a_denoiser_that_is_told_the_guidance_has_no_loop_of_the_runtimes(
    android_bundle: Callable[[int], Path], guidance: str, asked: int
) -> None:
    bundle = open_bundle(android_bundle(2))
    denoiser = {**bundle.pipeline["denoiser"], "guidance": guidance}
    pipeline = {**bundle.pipeline, "denoiser": denoiser}
    network: Any = Network()
    loops: list[Any] = []
    runtime = Runtime("zeros", "", lambda _: network, resident_loop=lambda unet: loops.append(unet))
    told = Bundle(bundle.path, {**bundle.manifest, "pipeline": pipeline})
    drawn = Generator(told, runtime)(GenerationRequest("a cat", "", 2, 4.0, 1))
    assert len(loops) == asked and drawn.pixels.shape == (64, 64, 3)
