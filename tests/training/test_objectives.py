"""Each objective, held to its equation."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from coreml_sd.models.denoiser import guidance_embedding
from tests.helpers.tiny_md import tiny_unet
from training.mobile_diffusion.chance import Chance
from training.mobile_diffusion.discriminator import LatentDiscriminator
from training.mobile_diffusion.objectives.diffusion import min_snr_weights, velocity_loss
from training.mobile_diffusion.objectives.guidance import (
    Guided,
    embedded_scale,
    guidance_loss,
    truncated_snr_error,
)
from training.mobile_diffusion.objectives.step_distillation import (
    StepGrid,
    plain_loss,
    sample,
    step_loss,
)
from training.mobile_diffusion.objectives.ufogen import Draw, Ufogen, one_step
from training.mobile_diffusion.point_network import EMPTY, PointNetwork
from training.mobile_diffusion.schedule import CLEAN, Schedule, spaced

SCHEDULE = Schedule.from_config(
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
)
GRID = StepGrid.of(SCHEDULE, 20, 8)
LN2 = math.log(2)
BATCH = 6


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X0, NOISE = normal(BATCH, 2), normal(BATCH, 2, seed=1)
TIMES = torch.tensor([0, 200, 400, 600, 800, 999])
CONDITION = torch.tensor([0, 1, 0, 1, 0, 1])
SCALE = torch.linspace(1, 6, BATCH)


def network() -> PointNetwork:
    torch.manual_seed(0)
    made = PointNetwork(SCHEDULE, 1.0)
    torch.nn.init.normal_(made.condition.weight)
    return made


def teacher() -> Guided:
    return Guided(network(), torch.tensor([EMPTY]))


def knows(x0: torch.Tensor) -> Callable[..., torch.Tensor]:
    """A denoiser that always means the same x_0."""
    return lambda x, t, *_: SCHEDULE.velocity_of(x, x0, t)


class TestPlainLoss:
    def test_who_knows_the_noise_loses_nothing(self) -> None:
        v = SCHEDULE.velocity(X0, NOISE, TIMES)
        assert velocity_loss(lambda *_: v, SCHEDULE, X0, NOISE, TIMES, None) == 0

    def test_an_error_of_one_costs_the_weight(self) -> None:
        v = SCHEDULE.velocity(X0, NOISE, TIMES)
        weights = min_snr_weights(SCHEDULE.snr(TIMES))
        loss = velocity_loss(lambda *_: v + 1, SCHEDULE, X0, NOISE, TIMES, None)
        torch.testing.assert_close(loss, weights.mean())

    def test_weights_are_min_snr_over_snr_plus_one(self) -> None:
        found = min_snr_weights(torch.tensor([0.0, 1.0, 5.0, 9.0]))
        torch.testing.assert_close(found, torch.tensor([0, 1 / 2, 5 / 6, 5 / 10]))


class TestGuidance:
    def test_a_scale_of_one_is_the_condition_and_of_zero_none(self) -> None:
        inner, x = network(), normal(BATCH, 2)
        ones, zeros = torch.ones(BATCH), torch.zeros(BATCH)
        empty = torch.full((BATCH,), EMPTY)
        with torch.no_grad():
            found = [teacher()(x, TIMES, CONDITION, scale) for scale in (ones, zeros)]
            wanted = [inner(x, TIMES, CONDITION), inner(x, TIMES, empty)]
        torch.testing.assert_close(found, wanted)
        assert not torch.allclose(*wanted)

    def test_each_sample_has_its_scale(self) -> None:
        """v is linear in it: twice as far from the prediction without condition."""
        x = normal(BATCH, 2)
        none, once, twice = (teacher()(x, TIMES, CONDITION, SCALE * k) for k in (0, 1, 2))
        torch.testing.assert_close(twice - none, 2 * (once - none))

    @pytest.mark.parametrize("width", [8, 9, 256])
    def test_a_scale_is_embedded_as_the_product_does_it(self, width: int) -> None:
        scales = [1.0, 2.5, 14.0]
        wanted = np.stack([guidance_embedding(scale, width) for scale in scales])
        found = embedded_scale(torch.tensor(scales), width)
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)

    def test_the_students_target_is_the_guided_teacher(self) -> None:
        x, guided = normal(BATCH, 2), teacher()
        arguments = (SCHEDULE, x, TIMES, CONDITION, SCALE)
        assert guidance_loss(guided, guided, *arguments) == 0
        unguided = guidance_loss(lambda x, t, c, _: guided.network(x, t, c), guided, *arguments)
        assert unguided > 0

    def test_its_weight_is_that_of_x0_by_truncated_snr(self) -> None:
        x, right, wrong = normal(BATCH, 2), normal(BATCH, 2, seed=2), normal(BATCH, 2, seed=3)
        errors = SCHEDULE.clean(x, wrong, TIMES) - SCHEDULE.clean(x, right, TIMES)
        wanted = SCHEDULE.snr(TIMES).clamp(min=1) * errors.square().mean(dim=1)
        found = truncated_snr_error(SCHEDULE, wrong, right, TIMES)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)

    def test_the_teacher_learns_nothing(self) -> None:
        guided, learner = teacher(), network().as_guided()
        guidance_loss(learner, guided, SCHEDULE, X0, TIMES, CONDITION, SCALE).backward()
        assert all(p.grad is None for p in guided.network.parameters())
        assert learner.last.weight.grad.any()


class TestStepDistillation:
    def test_the_teachers_steps_lie_between_the_students(self) -> None:
        assert GRID.times.shape == (8, 4)
        assert [*GRID.times[:, 0].tolist(), CLEAN] == spaced(SCHEDULE, 8)
        assert GRID.times[1:, 0].tolist() == GRID.times[:-1, -1].tolist()
        assert (GRID.times.diff(dim=1) < 0).all()
        assert GRID.times.flatten().unique().tolist() == sorted(spaced(SCHEDULE, 24))

    def test_a_teacher_of_as_many_steps_is_the_target_itself(self) -> None:
        guided, rows = teacher(), torch.arange(BATCH)
        same = StepGrid.of(SCHEDULE, 8, 8)
        found = [
            step_loss(guided, guided, SCHEDULE, grid, X0, NOISE, rows, CONDITION, SCALE)
            for grid in (same, GRID)
        ]
        assert found[0] < 1e-7 and found[1] > 1e-5

    def test_the_target_leads_where_the_teacher_ends(self) -> None:
        """A student without loss makes the teacher's steps in one."""
        guided, rows = teacher(), torch.tensor([0, 3, 7, 7, 1, 2])
        times = GRID.times[rows]
        x = SCHEDULE.start_or_noisy(X0, NOISE, times[:, 0])
        end = sample(guided, SCHEDULE, x, times, CONDITION, SCALE)
        ideal = knows(SCHEDULE.clean_of_step(x, end, times[:, 0], times[:, -1]))
        arguments = (SCHEDULE, GRID, X0, NOISE, rows, CONDITION, SCALE)
        assert step_loss(ideal, guided, *arguments) < 1e-7
        found = sample(ideal, SCHEDULE, x, times[:, [0, -1]], CONDITION, SCALE)
        torch.testing.assert_close(found, end, rtol=1e-3, atol=1e-4)

    def test_the_first_step_begins_with_noise_alone(self) -> None:
        seen: list[torch.Tensor] = []

        def looks(x: torch.Tensor, *_: Any) -> torch.Tensor:
            seen.append(x)
            return torch.zeros_like(x)

        rows = torch.tensor([0, 1, 0, 1, 0, 1])
        step_loss(looks, teacher(), SCHEDULE, GRID, X0, NOISE, rows, CONDITION, SCALE)
        assert torch.equal(seen[0][::2], NOISE[::2]) and not torch.equal(seen[0], NOISE)

    def test_the_plain_loss_is_told_a_scale_of_one(self) -> None:
        inner = teacher()
        found = plain_loss(inner, SCHEDULE, X0, NOISE, TIMES, CONDITION)
        wanted = velocity_loss(inner.network, SCHEDULE, X0, NOISE, TIMES, CONDITION)
        torch.testing.assert_close(found, wanted)


def drawn(objective: Ufogen, batch: int = 4000) -> Draw:
    clean = 3 * normal(batch, 2, seed=5)
    return objective.draw(Chance(0, 0, 0, batch), clean)


def noise_of(x: torch.Tensor, x0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    signal = SCHEDULE.signal(t)[:, None]
    return (x - signal.sqrt() * x0) / (1 - signal).sqrt()


class TestUfogen:
    OBJECTIVE = Ufogen(SCHEDULE)

    def test_the_three_noises_are_independent(self) -> None:
        draw = drawn(self.OBJECTIVE)
        inner = (draw.s > CLEAN) & (draw.t < SCHEDULE.last)
        noises = torch.cat(
            [
                noise_of(draw.noisy, draw.clean, draw.t)[inner],
                noise_of(draw.real, draw.clean, draw.s)[inner],
                draw.noise[inner],
                draw.clean[inner] / 3,
            ],
            dim=1,
        )
        assert len(noises) > 1500
        torch.testing.assert_close(noises.T.cov(), torch.eye(8), atol=0.12, rtol=0)

    def test_the_discriminator_looks_one_jump_below(self) -> None:
        draw = drawn(self.OBJECTIVE)
        assert torch.equal(draw.s, (draw.t - 250).clamp(min=CLEAN)) and (draw.s < draw.t).all()
        assert draw.t.min() < 5 and draw.t.max() == SCHEDULE.last
        assert torch.equal(draw.real[draw.s == CLEAN], draw.clean[draw.s == CLEAN])

    def test_a_part_begins_with_noise_alone(self) -> None:
        draw = drawn(self.OBJECTIVE)
        last = draw.t == SCHEDULE.last
        assert 0.22 < last.float().mean() < 0.28
        related = (draw.noisy[last] * draw.clean[last]).mean()
        leaking = SCHEDULE.add_noise(draw.clean, draw.noise, draw.t)[last]
        assert abs(related) < 0.15 < (leaking * draw.clean[last]).mean()

    def test_the_drawn_x_s_is_noised_anew(self) -> None:
        """By the forward kernel it holds nothing of x_t; by the posterior it does."""
        draw = drawn(self.OBJECTIVE)
        at = draw.t == SCHEDULE.last
        for objective, holds in ((self.OBJECTIVE, False), (Ufogen(SCHEDULE, posterior=True), True)):
            made = objective.noised(torch.zeros_like(draw.clean), draw)[at]
            related = (made * draw.noisy[at]).mean()
            assert (related > 0.2) == holds and (abs(related) < 0.1) == (not holds)

    def test_the_discriminator_sees_x_s_and_s(self) -> None:
        seen: list[tuple[torch.Tensor, ...]] = []

        def looks(x: torch.Tensor, s: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            seen.append((x, s, condition))
            return x.sum(dim=1)

        draw, condition = drawn(self.OBJECTIVE, BATCH), CONDITION
        truth = knows(draw.clean)
        self.OBJECTIVE.discriminator_loss(looks, truth, draw, condition)
        self.OBJECTIVE.generator_losses(truth, looks, draw, condition)
        assert len(seen) == 3
        assert all(torch.equal(s, draw.s) and c is condition for _, s, c in seen)
        assert torch.equal(seen[0][0], draw.real)
        again = SCHEDULE.add_noise(draw.clean, draw.noise, draw.s)
        for x, _, _ in seen[1:]:
            torch.testing.assert_close(x, again, rtol=1e-3, atol=1e-3)

    def test_losses_at_the_start(self) -> None:
        """A logit of 0 says nothing: ln 2 for each term; the generator is the pretrained one."""
        inner = network()
        judge, draw = inner.as_discriminator(), drawn(self.OBJECTIVE, BATCH)
        of_judge = self.OBJECTIVE.discriminator_loss(judge, inner, draw, CONDITION)
        of_drawer = self.OBJECTIVE.generator_losses(inner, judge, draw, CONDITION)
        torch.testing.assert_close(of_judge, torch.tensor(2 * LN2))
        torch.testing.assert_close(of_drawer["adversarial"], torch.tensor(LN2))
        v = inner(draw.noisy, draw.t, CONDITION)
        errors = (SCHEDULE.clean(draw.noisy, v, draw.t) - draw.clean).square().mean(dim=1)
        weighted = (errors * self.OBJECTIVE.reconstruction_weights(draw)).mean()
        torch.testing.assert_close(of_drawer["reconstruction"], weighted)

    def test_who_tells_them_apart_loses_little_and_who_errs_much(self) -> None:
        draw = drawn(self.OBJECTIVE, BATCH)
        far = knows(draw.clean + 1000)

        def judge(sign: float) -> Callable[..., torch.Tensor]:
            return lambda x, *_: sign * (200 - x.sum(dim=1))

        right, wrong = (
            self.OBJECTIVE.discriminator_loss(judge(sign), far, draw, None) for sign in (1, -1)
        )
        assert right < 0.01 and wrong > 100

    def test_the_weight_of_the_reconstruction(self) -> None:
        """a_t^2 / (1 - a_t^2 / a_s^2), little where there is only noise, at most 5."""
        draw = replace(
            drawn(self.OBJECTIVE, 3),
            t=torch.tensor([999, 600, 3]),
            s=torch.tensor([749, 350, CLEAN]),
        )
        found = self.OBJECTIVE.reconstruction_weights(draw)
        a_t, a_s = SCHEDULE.kept[600], SCHEDULE.kept[350]
        assert found[0] < 0.01 and found[2] == 5
        torch.testing.assert_close(found[1], a_t / (1 - a_t / a_s))

    def test_without_a_discriminator_there_is_one_term(self) -> None:
        objective = Ufogen(SCHEDULE, adversarial=0.0, reconstruction=2.0)
        draw, inner = drawn(objective, BATCH), network()

        def unasked(*_: Any) -> torch.Tensor:
            raise AssertionError("the discriminator is not asked")

        losses = objective.generator_losses(inner, unasked, draw, CONDITION)
        once = self.OBJECTIVE.generator_losses(inner, inner.as_discriminator(), draw, CONDITION)
        assert list(losses) == ["reconstruction"]
        torch.testing.assert_close(losses["reconstruction"], 2 * once["reconstruction"])

    def test_one_step_is_ddims_one_step(self) -> None:
        inner = network()
        times, scale = torch.tensor(spaced(SCHEDULE, 1)), torch.ones(BATCH)
        with torch.no_grad():
            found = one_step(inner, SCHEDULE, NOISE, CONDITION)
        wanted = sample(lambda x, t, c, _: inner(x, t, c), SCHEDULE, NOISE, times, CONDITION, scale)
        torch.testing.assert_close(found, wanted)


def awake(judge: LatentDiscriminator) -> LatentDiscriminator:
    """With a last layer other than 0."""
    for parameter in judge.head[-1].parameters():
        torch.nn.init.normal_(parameter)
    return judge


class TestLatentDiscriminator:
    """Of a tiny UNet: 8 channels, 8x8 latents."""

    def inputs(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        width = tiny_unet().config["cross_attention_dim"]
        return normal(2, 8, 8, 8), torch.tensor([749, CLEAN]), normal(2, 5, width, seed=1)

    def test_it_says_zero_for_each_patch_at_the_start(self) -> None:
        logits = LatentDiscriminator(tiny_unet())(*self.inputs())
        assert logits.shape == (2, 1, 2, 2) and not logits.any()

    def test_both_losses_are_ln_2_then(self) -> None:
        unet = tiny_unet()

        def generates(x: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            v: torch.Tensor = unet(x, t, c).sample
            return v

        judge, (x, _, context) = LatentDiscriminator(unet), self.inputs()
        objective = Ufogen(SCHEDULE)
        draw = objective.draw(Chance(0, 0, 0, 2), x)
        of_judge = objective.discriminator_loss(judge, generates, draw, context)
        of_drawer = objective.generator_losses(generates, judge, draw, context)
        torch.testing.assert_close(of_judge, torch.tensor(2 * LN2))
        torch.testing.assert_close(of_drawer["adversarial"], torch.tensor(LN2))

    def test_it_starts_as_the_unet_and_leaves_it_alone(self) -> None:
        unet = tiny_unet()
        judge = LatentDiscriminator(unet)
        theirs, ours = unet.state_dict(), judge.unet.state_dict()
        assert {name.split(".")[0] for name in theirs.keys() - ours.keys()} == {
            "up_blocks",
            "conv_norm_out",
            "conv_out",
        }
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
        assert all(value.data_ptr() != theirs[name].data_ptr() for name, value in ours.items())

    def test_all_of_it_learns_once_the_head_is_not_zero(self) -> None:
        judge = LatentDiscriminator(tiny_unet(time_cond_proj_dim=16))
        assert judge.unet.time_embedding.cond_proj is None
        awake(judge)(*self.inputs()).square().sum().backward()
        unmoved = [name for name, p in judge.named_parameters() if p.grad is None]
        assert not unmoved

    def test_it_sees_the_latent_the_step_and_the_text(self) -> None:
        judge = awake(LatentDiscriminator(tiny_unet()))
        x, s, text = self.inputs()
        with torch.no_grad():
            whole = judge(x, s, text)
            for changed in ((x + 1, s, text), (x, s.flip(0), text), (x, s, text + 1)):
                assert not torch.allclose(judge(*changed), whole)
            assert torch.equal(judge(x, s.clamp(min=0), text), whole)
