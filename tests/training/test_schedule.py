"""The schedule, held against diffusers' own schedulers."""

import itertools

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from training.mobile_diffusion.schedule import CLEAN, Schedule, spaced

CONFIG = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "clip_sample": False,
}
SCHEDULE = Schedule.from_config(CONFIG)
TIMES = torch.tensor([0, 1, 250, 998, 999])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(5, 2), (5, 8, 4, 4)])
def test_noise_and_velocity_are_those_of_diffusers(shape: tuple[int, ...]) -> None:
    theirs = DDPMScheduler.from_config(CONFIG)
    x0, noise = normal(*shape), normal(*shape, seed=1)
    x, v = SCHEDULE.add_noise(x0, noise, TIMES), SCHEDULE.velocity(x0, noise, TIMES)
    torch.testing.assert_close(x, theirs.add_noise(x0, noise, TIMES))
    torch.testing.assert_close(v, theirs.get_velocity(x0, noise, TIMES))
    torch.testing.assert_close(SCHEDULE.clean(x, v, TIMES), x0)
    torch.testing.assert_close(SCHEDULE.noise(x, v, TIMES), noise)
    torch.testing.assert_close(SCHEDULE.velocity_of(x, x0, TIMES), v, rtol=1e-3, atol=1e-4)


def test_the_clean_step_has_no_noise() -> None:
    x0, noise = normal(3, 2), normal(3, 2, seed=1)
    clean = torch.tensor([CLEAN, 0, CLEAN])
    found = SCHEDULE.add_noise(x0, noise, clean)
    assert torch.equal(found[0::2], x0[0::2]) and not torch.equal(found[1], x0[1])
    assert SCHEDULE.snr(clean)[0] == torch.inf


def test_only_the_last_timestep_starts_from_noise_alone() -> None:
    x0, noise = normal(5, 2), normal(5, 2, seed=1)
    found = SCHEDULE.start_or_noisy(x0, noise, TIMES)
    assert torch.equal(found[4], noise[4])
    assert torch.equal(found[:4], SCHEDULE.add_noise(x0, noise, TIMES)[:4])
    assert not torch.equal(SCHEDULE.add_noise(x0, noise, TIMES)[4], noise[4])


@pytest.mark.parametrize("steps", [1, 8, 20])
@pytest.mark.parametrize("to_clean", [True, False])
def test_ddim_steps_are_those_of_diffusers(steps: int, to_clean: bool) -> None:
    """Down to `CLEAN`, or to timestep 0 where diffusers' `set_alpha_to_one` is off."""
    theirs = DDIMScheduler.from_config(
        CONFIG, timestep_spacing="trailing", set_alpha_to_one=to_clean
    )
    theirs.set_timesteps(steps)
    times = spaced(SCHEDULE, steps)
    assert theirs.timesteps.tolist() == times[:-1] and times[-1] == CLEAN
    if not to_clean:
        times[-1] = 0
    ours = wanted = normal(3, 2)
    for index, (t, s) in enumerate(itertools.pairwise(times)):
        v = normal(3, 2, seed=index)
        ours = SCHEDULE.ddim_step(ours, v, torch.full((3,), t), torch.full((3,), s))
        wanted = theirs.step(v, t, wanted).prev_sample
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [1000, 4])
def test_the_posterior_is_that_of_diffusers(steps: int) -> None:
    """From one timestep to the next, and over a quarter of all of them."""
    theirs = DDPMScheduler.from_config(CONFIG, timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    for t in (999, 749, 499):
        s = t - 1000 // steps
        x, v = normal(4000, 2), normal(4000, 2, seed=1)
        when, then = torch.full((4000,), t), torch.full((4000,), s)
        mean, deviation = SCHEDULE.posterior(x, SCHEDULE.clean(x, v, when), when, then)
        generator = torch.Generator().manual_seed(3)
        wanted = theirs.step(v, t, x, generator=generator).prev_sample
        found = mean + deviation * normal(4000, 2, seed=3)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_forward_kernel_and_posterior_are_one_process() -> None:
    """x_s drawn from x_t by the posterior has the variance that the forward kernel gives it."""
    t, s = torch.tensor([700]), torch.tensor([300])
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    of_x, deviation = SCHEDULE.posterior(one, zero, t, s)
    of_x0, _ = SCHEDULE.posterior(zero, one, t, s)
    noise = 1 - SCHEDULE.signal(t)
    torch.testing.assert_close(
        of_x0 + of_x * SCHEDULE.signal(t).sqrt(), SCHEDULE.signal(s).sqrt()[None]
    )
    torch.testing.assert_close(deviation**2 + of_x**2 * noise, (1 - SCHEDULE.signal(s))[None])


def test_where_nothing_of_the_data_is_left_the_posterior_is_the_forward_kernel() -> None:
    none_left = Schedule.from_config({**CONFIG, "rescale_betas_zero_snr": True})
    t, s = torch.tensor([999]), torch.tensor([749])
    x, x0 = normal(1, 2), normal(1, 2, seed=1)
    for schedule, same in ((none_left, True), (SCHEDULE, False)):
        mean, deviation = schedule.posterior(x, x0, t, s)
        kept = schedule.signal(s)
        near = torch.allclose(mean, kept.sqrt() * x0, atol=1e-3)
        assert near == same
        assert torch.allclose(deviation**2, (1 - kept)[:, None], atol=1e-3) == same


def test_the_posterior_of_the_clean_step_is_x0() -> None:
    x, x0 = normal(2, 2), normal(2, 2, seed=1)
    mean, deviation = SCHEDULE.posterior(x, x0, torch.tensor([10, 999]), torch.tensor([-1, -1]))
    torch.testing.assert_close(mean, x0)
    assert not deviation.any()


def test_a_step_tells_the_x0_that_it_was_made_with() -> None:
    t, s = torch.tensor([999, 500, 124]), torch.tensor([874, 100, CLEAN])
    x0, noise = normal(3, 2), normal(3, 2, seed=1)
    x, v = SCHEDULE.add_noise(x0, noise, t), SCHEDULE.velocity(x0, noise, t)
    end = SCHEDULE.ddim_step(x, v, t, s)
    torch.testing.assert_close(SCHEDULE.clean_of_step(x, end, t, s), x0, rtol=1e-4, atol=1e-4)
