"""The objectives on a mixture with a known answer; the same figures as the command's `mixture`."""

import math
from collections.abc import Iterator

import pytest
import torch
from click.testing import CliRunner

from training.mobile_diffusion import mixture_figures
from training.mobile_diffusion.__main__ import main
from training.mobile_diffusion.mixture import Mixture, mmd
from training.mobile_diffusion.mixture_figures import (
    BEFORE,
    GENERATORS,
    STUDENT_STEPS,
    TEACHER_STEPS,
    Drawn,
    before,
    followed,
    generated,
    measured,
    of_the_data,
)
from training.mobile_diffusion.mixture_study import (
    FAR,
    NEAR,
    SCHEDULE,
    pretrained,
    student,
)
from training.mobile_diffusion.objectives.step_distillation import StepGrid
from training.mobile_diffusion.point_network import PointNetwork

MIXTURE = NEAR.mixture


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The figures are those of one thread; more only cost more here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def near(one_thread: None) -> PointNetwork:
    return pretrained(NEAR.mixture)


@pytest.fixture(scope="module")
def far(one_thread: None) -> PointNetwork:
    return pretrained(FAR.mixture)


class TestMeasures:
    def test_the_density_is_one_in_all(self) -> None:
        side = torch.arange(-14, 14, 0.1)
        points = torch.cartesian_prod(side, side)
        assert abs(float(MIXTURE.log_density(points).exp().sum()) * 0.01 - 1) < 1e-3

    def test_the_density_is_that_of_the_samples(self) -> None:
        """The mean of -log p over them is the entropy: that of a mode, and of which mode."""
        found = -float(MIXTURE.log_density(of_the_data(MIXTURE, 1)).mean())
        wanted = math.log(2 * math.pi * math.e * MIXTURE.deviation**2) + math.log(8)
        assert abs(found - wanted) < 0.05

    def test_the_variance_is_that_of_the_samples(self) -> None:
        found = of_the_data(MIXTURE, 1).T.cov()
        torch.testing.assert_close(found, MIXTURE.variance * torch.eye(2), atol=1.5, rtol=0)

    def test_the_data_is_near_itself(self) -> None:
        found = measured(MIXTURE, of_the_data(MIXTURE, 2))
        assert found.distance < 0.03 and 0.9 < found.least <= found.most < 1.1

    @pytest.mark.parametrize("wrong", ["shifted", "wide", "mean", "one mode missing"])
    def test_what_is_wrong_is_seen(self, wrong: str) -> None:
        points = of_the_data(MIXTURE, 2)
        if wrong == "shifted":
            points = points + 1.0
        elif wrong == "wide":
            points = of_the_data(Mixture(radius=8, deviation=1.6), 2)
        elif wrong == "mean":
            points = torch.zeros_like(points)
        else:
            points = points[torch.cdist(points, MIXTURE.centres).argmin(dim=1) != 3]
        found = measured(MIXTURE, points)
        assert found.distance > 0.06
        assert (found.least < 0.5) == (wrong in ("mean", "one mode missing"))

    def test_the_distance_has_its_equation(self) -> None:
        a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]])
        kernel = {k: math.exp(-(k**2) / 2) for k in (0, 1, 2)}
        wanted = math.sqrt(max(0.0, kernel[2] + kernel[0] - 2 * kernel[1]))
        assert mmd(a, b, (1.0,)) == pytest.approx(wanted, abs=1e-6)


def is_a_sampler(found: Drawn, others: dict[str, Drawn]) -> bool:
    """Three times as near to the data as each of the others, with all modes."""
    nearer = all(3 * found.distance < other.distance for other in others.values())
    return nearer and 0.5 < found.least <= found.most < 2


def test_one_step_is_a_sampler_where_before_it_was_a_mean(near: PointNetwork) -> None:
    found = {name: generated(NEAR, near, name) for name in ("UFOGen", "reconstruction alone")}
    found[BEFORE] = before(NEAR, near)[BEFORE]
    ours = found.pop("UFOGen")
    assert is_a_sampler(ours, found), (ours, found)
    assert not any(is_a_sampler(each, {}) for each in found.values())


@pytest.mark.slow
def test_the_posterior_and_reconstruction_alone_do_not_do_it(far: PointNetwork) -> None:
    found = {name: generated(FAR, far, name) for name in GENERATORS}
    found[BEFORE] = before(FAR, far)[BEFORE]
    ours = found.pop("UFOGen")
    assert is_a_sampler(ours, found), (ours, found)
    assert not any(is_a_sampler(each, {}) for each in found.values())


def test_a_student_follows_its_teacher_at_each_scale(near: PointNetwork) -> None:
    """Within a fifteenth of the radius, less than half as far away as the teacher's own 8 steps;
    and the scale does to it what guidance does."""
    grid = StepGrid.of(SCHEDULE, TEACHER_STEPS, STUDENT_STEPS)
    low, middle, high = followed(NEAR.mixture, near, student(NEAR.mixture, near, grid))
    for each in (low, middle, high):
        assert each.student < 1 / 15 and each.student < each.teacher / 2, each
    for each in (middle, high):
        assert each.student < each.unheeding / 3, each
        apart = (each.shift - each.wanted).norm() / each.wanted.norm()
        assert apart < 0.25, each
    assert high.wanted.norm() > middle.wanted.norm() > 0.05 * NEAR.mixture.radius


def test_the_command_says_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture_figures, "lines", lambda say: say("the figures"))
    assert CliRunner().invoke(main, ["mixture"]).output == "the figures\n"
    refused = CliRunner().invoke(main, ["vae"])
    assert refused.exit_code == 2 and "--config" in refused.output
