"""The table of weights replays diffusers' schedulers; what is not such a sum gives none."""

from typing import Any

import pytest
import torch

from coreml_sd.schedulers.linear_scheduler import linear_steps
from coreml_sd.schedulers.linear_step import GUIDED, LATENTS, LinearStep
from coreml_sd.schedulers.schedulers import (
    NAMES,
    initial_noise_scale,
    make_scheduler,
    scaled_input,
)

CONFIG = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "steps_offset": 1,
}
SHAPE = (1, 4, 8, 8)
NO_SAMPLE_PREDICTION = ("pndm", "euler-a")  # diffusers has none
DRAWING = ("euler-a", "lcm", "tcd")


def scheduler(name: str, **settings: Any) -> Any:
    if name == "flow-match-euler":
        settings["prediction_type"] = "flow_prediction"
    return make_scheduler(name, {**CONFIG, **settings})


def predict(sample: torch.Tensor, timestep: float) -> torch.Tensor:
    """Stands in for the UNet: what it gives depends a little on what it is given."""
    fixed = torch.randn(SHAPE, generator=torch.Generator().manual_seed(int(timestep)))
    return fixed + 0.01 * sample.roll(1, -1)


def by_diffusers(scheduler: Any, steps: int) -> list[torch.Tensor]:
    """The host's loop, each latent in turn."""
    generator = torch.Generator().manual_seed(3)
    scheduler.set_timesteps(steps)
    latent = torch.randn(SHAPE, generator=generator) * initial_noise_scale(scheduler)
    trail = [latent]
    takes = "generator" in type(scheduler).step.__code__.co_varnames
    extra = {"generator": generator} if takes else {}
    for timestep in scheduler.timesteps:
        sample = scaled_input(scheduler, latent, timestep)
        guided = predict(sample, float(timestep))
        latent = scheduler.step(guided, timestep, latent, **extra).prev_sample
        trail.append(latent)
    return trail


def by_table(table: tuple[LinearStep, ...], sigma: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    trail = [torch.randn(SHAPE, generator=generator) * sigma]
    latents, guided = [trail[0]] * LATENTS, [torch.zeros(SHAPE)] * GUIDED
    for step in table:
        prediction = predict(step.input_scale * latents[0], step.timestep)
        guided = [prediction, *guided[:-1]]
        noise = torch.randn(SHAPE, generator=generator) if step.draws else None
        latents = [step.apply(latents, guided, noise), *latents[:-1]]
        trail.append(latents[0])
    return trail


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", NAMES)
def test_the_table_replays_the_scheduler(name: str, prediction: str, spacing: str) -> None:
    if prediction == "sample" and name in NO_SAMPLE_PREDICTION:
        pytest.skip("diffusers has no such scheduler")
    settings = {"prediction_type": prediction, "timestep_spacing": spacing}
    for steps in (1, 2, 4, 20, 50):
        table = linear_steps(scheduler(name, **settings), steps)
        assert table is not None
        theirs = scheduler(name, **settings)
        expected = by_diffusers(theirs, steps)
        actual = by_table(table, initial_noise_scale(theirs))
        assert len(actual) == len(expected)
        for ours, reference in zip(actual, expected, strict=True):
            assert (ours - reference).abs().max() <= 1e-5 * reference.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_drawn_where_the_scheduler_draws_it(name: str) -> None:
    table = linear_steps(scheduler(name), 4)
    assert table is not None
    assert any(step.draws for step in table) == (name in DRAWING)
    assert all(step.draws or step.noise == 0 for step in table)


def test_pndm_repeats_a_timestep() -> None:
    table = linear_steps(scheduler("pndm"), 20)
    assert table is not None and len(table) == 21
    assert table[1].timestep == table[2].timestep


def test_euler_scales_what_the_unet_reads() -> None:
    table = linear_steps(scheduler("euler"), 4)
    assert table is not None
    assert all(step.input_scale < 1 for step in table)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("name", ["ddim", "lcm"])
@pytest.mark.parametrize("setting", ["clip_sample", "thresholding"])
def test_clipping_has_no_table(name: str, setting: str, steps: int) -> None:
    clipping = type(scheduler(name))(**{**CONFIG, setting: True})
    assert linear_steps(clipping, steps) is None


def test_a_memory_deeper_than_the_table_has_none() -> None:
    assert linear_steps(scheduler("unipc", solver_order=2), 20) is not None
    assert linear_steps(scheduler("unipc", solver_order=3), 20) is None


def test_the_scheduler_is_left_as_it_was() -> None:
    theirs = scheduler("dpm++")
    theirs.set_timesteps(7)
    linear_steps(theirs, 3)
    assert len(theirs.timesteps) == 7
