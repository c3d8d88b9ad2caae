"""The loop on the host: what the UNet reads, how guidance combines it, what the scheduler gets."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from coreml_sd.generation.host_loop import HostLoop
from coreml_sd.runtimes.base import Array, TensorInfo
from coreml_sd.schedulers.schedulers import begin, make_scheduler

SHAPE = (1, 4, 2, 2)
LATENT = np.full(SHAPE, 2.0, np.float32)
# What the UNet predicts for each row: 1 for the negative prompt, 5 for the prompt.
CONDITIONS = {"context": np.array([[1.0], [5.0]], np.float32)}


class UNet:
    """Predicts the number of each row's condition."""

    def __init__(self, batch: int) -> None:
        self.inputs = {"sample": TensorInfo("sample", (batch, *SHAPE[1:]), "float32")}
        self.outputs: dict[str, TensorInfo] = {}
        self.given: list[Mapping[str, Array]] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.given.append(inputs)
        ones = np.ones_like(inputs["sample"])
        return {"noise_pred": ones * inputs["context"][:, :, None, None]}

    def close(self) -> None:
        pass


class Scheduler:
    """Keeps what it is given; the UNet reads half the latent."""

    timesteps = torch.tensor([900.0, 500.0, 100.0])

    def __init__(self) -> None:
        self.steps: list[tuple[torch.Tensor, float, torch.Tensor]] = []

    def scale_model_input(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return sample / 2

    def step(self, prediction: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor) -> Any:
        self.steps.append((prediction, float(timestep), sample))
        return SimpleNamespace(prev_sample=sample + 1)


def drawn(
    guidance: float, batch: int = 2, conditions: dict[str, Array] = CONDITIONS
) -> tuple[UNet, Scheduler]:
    unet, scheduler = UNet(batch), Scheduler()
    loop = HostLoop(unet, scheduler, torch.Generator())
    loop.begin(LATENT, conditions, guidance)
    for index in range(loop.count):
        loop.step(index)
    return unet, scheduler


@pytest.mark.parametrize("batch", [1, 2])
def test_guidance_leads_from_the_negative_prompt_to_the_prompt(batch: int) -> None:
    """1 + 3 * (5 - 1)."""
    _, scheduler = drawn(3.0, batch)
    for prediction, _, _ in scheduler.steps:
        assert prediction.shape == SHAPE and (prediction == 13.0).all()


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_without_guidance_only_the_prompt_is_asked(guidance: float, batch: int) -> None:
    unet, scheduler = drawn(guidance, batch)
    assert all((prediction == 5.0).all() for prediction, _, _ in scheduler.steps)
    assert len(unet.given) == 3


@pytest.mark.parametrize("batch", [1, 2])
def test_one_row_of_a_unet_that_is_told_the_guidance_is_not_combined(batch: int) -> None:
    only = {"context": CONDITIONS["context"][1:]}
    unet, scheduler = drawn(3.0, batch, only)
    assert all((prediction == 5.0).all() for prediction, _, _ in scheduler.steps)
    assert len(unet.given) == 3


def test_timesteps_come_in_the_order_of_the_scheduler() -> None:
    unet, scheduler = drawn(3.0)
    assert [timestep for _, timestep, _ in scheduler.steps] == [900.0, 500.0, 100.0]
    assert [given["timestep"].tolist() for given in unet.given] == [
        [900.0] * 2,
        [500.0] * 2,
        [100.0] * 2,
    ]


def test_the_unet_reads_the_scaled_latent() -> None:
    """And the scheduler the latent itself, each step that of the one before."""
    unet, scheduler = drawn(3.0)
    assert [float(given["sample"].mean()) for given in unet.given] == [1.0, 1.5, 2.0]
    assert [float(sample.mean()) for _, _, sample in scheduler.steps] == [2.0, 3.0, 4.0]


def test_noise_in_a_step_is_the_generators() -> None:
    def last(seed: int) -> Array:
        scheduler = make_scheduler("euler-a", {})
        begin(scheduler, 2)
        loop = HostLoop(UNet(2), scheduler, torch.Generator().manual_seed(seed))
        loop.begin(LATENT, CONDITIONS, 1.0)
        loop.step(0)
        return loop.latent()

    np.testing.assert_array_equal(last(0), last(0))
    assert (last(0) != last(1)).any()
