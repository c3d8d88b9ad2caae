"""The scheduler step's file computes the linear step, for both batches, with weights by name."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from coreml_sd.config import ConversionConfig
from coreml_sd.errors import CoremlSDError
from coreml_sd.models.open_model import open_model
from coreml_sd.progress import Silent
from coreml_sd.runtimes.litert.network import LiteRTNetwork
from coreml_sd.schedulers.linear_step import GUIDED, GUIDED_NAMES, LATENT_NAMES, LATENTS, LinearStep
from coreml_sd.targets.tflite.convert_scheduler_step import convert_scheduler_step
from coreml_sd.targets.tflite.scheduler_step import SchedulerStep


@pytest.mark.parametrize("batch", [1, 2])
def test_the_file_computes_the_step(sd1_folder: Path, tmp_path: Path, batch: int) -> None:
    unet = open_model(ConversionConfig(model=str(sd1_folder), batch=batch)).component("unet")
    entry = convert_scheduler_step(unet, tmp_path, True, Silent())
    (check,) = entry["checks"]
    assert check["passed"] and check["gate"]
    network = LiteRTNetwork(tmp_path / entry["path"])
    draw = np.random.default_rng(0).standard_normal
    given = {name: draw(t.shape).astype(np.float32) for name, t in network.inputs.items()}
    latents, guided = draw(LATENTS), draw(GUIDED)
    step = LinearStep(0.0, 1.0, tuple(latents), tuple(guided), 0.7, True)
    weights = np.array(step.weights(guidance=3.0, next_input_scale=0.5), np.float32)
    given["weights"] = weights.reshape(given["weights"].shape)

    rows = np.concatenate([given[name] for name in ("noise_pred", "noise_pred_text")[: 3 - batch]])
    prediction = rows[:1] + 3.0 * (rows[1:] - rows[:1])
    memory = [prediction, *(given[name] for name in GUIDED_NAMES[1:])]
    expected = step.apply([given[name] for name in LATENT_NAMES], memory, given["noise"])
    actual = network.run(given)
    network.close()
    np.testing.assert_allclose(actual["guided"], prediction, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(actual["next_latent"], expected, rtol=1e-5, atol=1e-5)
    repeated = np.repeat(0.5 * expected, batch, axis=0)
    np.testing.assert_allclose(actual["sample"], repeated, rtol=1e-5, atol=1e-5)


def test_a_file_that_differs_from_the_module_is_not_kept(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference is changed after the export, by one part in ten thousand."""
    from coreml_sd.targets.tflite import convert_scheduler_step as converter

    unet = open_model(ConversionConfig(model=str(sd1_folder))).component("unet")
    proven, forward = converter._proven, SchedulerStep.forward

    def changed(self: Any, *tensors: Any) -> Any:
        latent, guided, sample = forward(self, *tensors)
        return latent * 1.0001, guided, sample

    def proven_late(path: Any, unet: Any) -> Any:
        monkeypatch.setattr(SchedulerStep, "forward", changed)
        return proven(path, unet)

    monkeypatch.setattr(converter, "_proven", proven_late)
    with pytest.raises(CoremlSDError, match="the bundle is not written"):
        convert_scheduler_step(unet, tmp_path, True, Silent())


@pytest.mark.parametrize("batch", [1, 2])
def test_the_module_is_the_linear_step(batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = functools.partial(torch.randn, generator=generator)
    rows, memory = draw(2, 4, 3, 3), draw(LATENTS + GUIDED, 1, 4, 3, 3)  # the last is the noise
    latents, guided, noise = memory[:LATENTS], memory[LATENTS:-1], memory[-1]
    step = LinearStep(
        0.0, 1.0, tuple(draw(LATENTS).tolist()), tuple(draw(GUIDED).tolist()), 0.7, True
    )
    weights = torch.tensor(step.weights(guidance=3.0, next_input_scale=0.5)).reshape(1, -1, 1, 1)
    predictions = rows.chunk(2) if batch == 1 else (rows,)
    found = SchedulerStep(batch)(*predictions, *latents, *guided, noise, weights)
    prediction = rows[:1] + 3.0 * (rows[1:] - rows[:1])
    expected = step.apply(list(latents), [prediction, *guided], noise)
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], prediction)
    torch.testing.assert_close(found[2], 0.5 * expected.repeat(batch, 1, 1, 1))
