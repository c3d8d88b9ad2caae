"""GELU in plain ops: the numbers of the tanh form, and every intermediate inside fp16."""

import math

import pytest
import torch
import torch.nn.functional as F

from coreml_sd.metrics import psnr_db
from coreml_sd.mobile.gelu import CLIP, GELUS, clipped_gelu
from tests.mobile.half import HalfRounding

LARGEST = 60_000.0


def sweep() -> torch.Tensor:
    """-60,000 to 60,000: densely around zero, then in octaves."""
    octaves = torch.logspace(0, math.log10(LARGEST), 4001, dtype=torch.float64)
    return torch.cat([-octaves.flip(0), torch.linspace(-1, 1, 4001), octaves]).float()


def unclipped(x: torch.Tensor) -> torch.Tensor:
    """The tanh form as the paper gives it, op by op."""
    inner = x + 0.044715 * (x * x * x)
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * inner))


def test_it_equals_the_tanh_form() -> None:
    x = sweep()
    assert psnr_db(F.gelu(x, approximate="tanh"), clipped_gelu(x)) >= 130
    near = x[x.abs() <= 2 * CLIP]
    assert psnr_db(F.gelu(near, approximate="tanh"), clipped_gelu(near)) >= 130


def test_the_clip_alone_changes_nothing() -> None:
    """tanh is 1 to the last bit of fp32 long before the clip; the factor 0.5x is not clipped."""
    x = sweep()
    beyond = x[x.abs() >= CLIP]
    torch.testing.assert_close(clipped_gelu(beyond), beyond.clamp(min=0), rtol=0, atol=0)


def test_every_intermediate_fits_fp16() -> None:
    x = sweep().half().float()
    with HalfRounding() as mode:
        y = clipped_gelu(x)
    assert mode.finite
    assert psnr_db(F.gelu(x), y) > 70


@pytest.mark.parametrize("x", [40.5, 300.0, LARGEST, -40.5, -LARGEST])
def test_negative_control_the_unclipped_form_overflows(x: float) -> None:
    with HalfRounding() as mode:
        unclipped(torch.tensor([x]))
    assert not mode.finite
    with HalfRounding() as mode:
        clipped_gelu(torch.tensor([x]).half().float())
    assert mode.finite


def test_the_unclipped_form_is_fine_where_the_cube_fits() -> None:
    with HalfRounding() as mode:
        unclipped(torch.tensor([40.0, -40.0]))
    assert mode.finite


def test_its_distance_from_the_erf_form() -> None:
    """4.8e-4 at most, as its docstring says: it is the tanh formula's, not the clip's."""
    x = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    distance = (F.gelu(x) - clipped_gelu(x)).abs().max().item()
    assert 4.5e-4 < distance <= 4.8e-4
    assert (F.gelu(x) - F.gelu(x, approximate="tanh")).abs().max().item() == pytest.approx(distance)


def test_negative_control_a_clip_that_is_too_tight() -> None:
    """Clipped at 2 instead of 10 the cubic would be wrong where tanh is not 1 yet."""
    x = torch.linspace(-6, 6, 1001)
    c = x.clamp(-2, 2)
    tight = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (c + 0.044715 * c**3)))
    assert psnr_db(F.gelu(x, approximate="tanh"), tight) < 60


def test_the_choices_by_name() -> None:
    x = torch.linspace(-3, 3, 101)
    assert torch.equal(GELUS["exact"](x), F.gelu(x))
    assert torch.equal(GELUS["clipped"](x), clipped_gelu(x))


def test_its_constants_are_those_of_torch() -> None:
    x = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    expected = torch.nn.functional.gelu(x, approximate="tanh")
    torch.testing.assert_close(clipped_gelu(x), expected, rtol=0, atol=1e-12)
