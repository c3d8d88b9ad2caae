"""Group norm stays inside fp16 where the plain form leaves it."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from coreml_sd.errors import UserError
from coreml_sd.metrics import psnr_db
from coreml_sd.mobile.group_norm import SafeGroupNorm
from coreml_sd.mobile.options import MobileOptions


class HalfRounding(TorchDispatchMode):
    """Rounds the result of every op to fp16, as a phone does; remembers whether all was finite."""

    finite = True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            result = result.half().float()
            self.finite = self.finite and bool(torch.isfinite(result).all())
        return result


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
def test_it_equals_group_norm(norm: nn.GroupNorm, scale: float, shape) -> None:
    x = scale * torch.randn(shape)
    assert psnr_db(norm(x), SafeGroupNorm(norm, MobileOptions())(x)) >= 100


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


def test_only_a_plain_group_norm_is_taken() -> None:
    with pytest.raises(UserError):
        SafeGroupNorm(nn.LayerNorm(4), MobileOptions())
