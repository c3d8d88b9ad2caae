"""Schedulers by name, from the config of any model."""

import pytest
import torch

from coreml_sd.schedulers.schedulers import begin, make_scheduler

COSINE = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "epsilon"}


def take_all_steps(steps: int, *, begun: bool) -> None:
    scheduler = make_scheduler("dpm++-karras", COSINE)
    begin(scheduler, steps)
    if not begun:
        scheduler.set_timesteps(steps)
    latent = torch.ones(1, 4, 2, 2)
    for timestep in scheduler.timesteps:
        latent = scheduler.step(0.1 * latent, timestep, latent).prev_sample
    assert torch.isfinite(latent).all()


@pytest.mark.parametrize("steps", [8, 20, 50])
def test_karras_sigmas_over_cosine_betas_have_a_first_step(steps: int) -> None:
    take_all_steps(steps, begun=True)


def test_diffusers_alone_does_not_find_it() -> None:
    with pytest.raises((IndexError, AssertionError)):
        for steps in (8, 20, 50):
            take_all_steps(steps, begun=False)
