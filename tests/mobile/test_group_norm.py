"""Group norm stays inside fp16 where the plain form leaves it."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.metrics import psnr_db
from coreml_sd.mobile.group_norm import SafeGroupNorm
from coreml_sd.mobile.options import MobileOptions
from tests.mobile.half import HalfRounding, HalfSums


def plain(x: torch.Tensor, norm: nn.GroupNorm) -> torch.Tensor:
    """The form that converters make: mean, difference, square, mean, root, division."""
    grouped = x.reshape(x.shape[0], norm.num_groups, -1)
    centred = grouped - grouped.mean(2, keepdim=True)
    variance = (centred * centred).mean(2, keepdim=True)
    normal = (centred / torch.sqrt(variance + norm.eps)).reshape(x.shape)
    return normal * norm.weight[None, :, None, None] + norm.bias[None, :, None, None]


@pytest.fixture
def norm() -> nn.GroupNorm:
    made = nn.GroupNorm(4, 16, eps=1e-5)
    nn.init.normal_(made.weight)
    nn.init.normal_(made.bias)
    return made


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 2e4])
@pytest.mark.parametrize("shape", [(2, 16, 8, 8), (1, 16, 128, 96)])
def test_it_equals_group_norm(norm: nn.GroupNorm, scale: float, shape: Any) -> None:
    x = scale * torch.randn(shape)
    assert psnr_db(norm(x), SafeGroupNorm(norm, MobileOptions())(x)) >= 100


@pytest.mark.parametrize("scale", [1e-3, 1.0, 2e4])
@pytest.mark.parametrize(
    "options", [MobileOptions(), MobileOptions("batched", layout="channels-last")]
)
def test_for_fp32_it_goes_without_the_scaling(
    norm: nn.GroupNorm, scale: float, options: MobileOptions
) -> None:
    x = scale * torch.randn(1, 16, 32, 24)
    in_fp32 = SafeGroupNorm(norm, dataclasses.replace(options, arithmetic="fp32"))
    assert psnr_db(norm(x), in_fp32(x)) >= 100
    with HalfRounding() as mode:
        in_fp32(2000 * torch.randn(1, 16, 16, 16))
    assert not mode.finite


@pytest.mark.parametrize("scale", [1e-2, 1.0, 300.0, 15_000.0])
def test_it_stays_finite_and_near_in_fp16(norm: nn.GroupNorm, scale: float) -> None:
    x = (scale * torch.randn(1, 16, 16, 16)).clamp(-60_000, 60_000).half().float()
    safe = SafeGroupNorm(norm, MobileOptions())
    with HalfRounding() as mode:
        y = safe(x)
    assert mode.finite
    assert psnr_db(norm(x), y) > 50


def test_the_plain_form_overflows(norm: nn.GroupNorm) -> None:
    x = (1000 * torch.randn(1, 16, 16, 16)).half().float()
    with HalfRounding() as mode:
        plain(x, norm)
    assert not mode.finite


LAST = MobileOptions("batched", layout="channels-last")


class OneStage(SafeGroupNorm):
    """The same norm with the mean of a whole group taken at once."""

    def _mean(self, x: torch.Tensor) -> torch.Tensor:
        grouped = x.reshape(x.shape[0], self.groups, self.per_group, *x.shape[2:])
        means = grouped.mean((2, 3, 4), True).expand(-1, -1, self.per_group, -1, -1)
        return means.reshape(x.shape[0], x.shape[1], 1, 1)


class TestSumsInHalf:
    """A group of 8 maps of 64 x 64 near its peak of 4 sums to 90,000: above 65,504."""

    @pytest.mark.parametrize("options", [MobileOptions(), LAST], ids=lambda o: o.layout)
    def test_means_of_means_do_not_overflow(self, options: MobileOptions) -> None:
        norm, x = self.given()
        with HalfSums() as mode:
            y = SafeGroupNorm(norm, options)(x)
        assert mode.finite
        assert psnr_db(norm(x), y) > 40

    def test_negative_control_one_mean_does(self) -> None:
        norm, x = self.given()
        one_stage = OneStage(norm, MobileOptions())
        assert psnr_db(norm(x), one_stage(x)) >= 100
        with HalfSums() as mode:
            one_stage(x)
        assert not mode.finite

    @staticmethod
    def given() -> tuple[nn.GroupNorm, torch.Tensor]:
        return nn.GroupNorm(2, 16), 10 + torch.randn(1, 16, 64, 64)


@pytest.mark.parametrize("batch", [1, 2])
def test_channels_last_gives_the_same(norm: nn.GroupNorm, batch: int) -> None:
    options = MobileOptions("batched", layout="channels-last", batch=batch)
    x = torch.randn(batch, 16, 6, 10)
    assert psnr_db(norm(x), SafeGroupNorm(norm, options)(x)) >= 100


def test_only_a_plain_group_norm_is_taken() -> None:
    with pytest.raises(UserError):
        SafeGroupNorm(nn.LayerNorm(4), MobileOptions())
