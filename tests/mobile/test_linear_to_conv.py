"""Layers that mix channels, as 1x1 convolutions."""

import pytest
import torch
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.linear_to_conv import linear_to_conv


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_computes_the_same_and_its_weight_is_shared(bias: bool) -> None:
    linear = nn.Linear(6, 4, bias=bias)
    conv = linear_to_conv(linear)
    x = torch.randn(2, 5, 6)
    rows = conv(x.transpose(1, 2)[:, :, None])[:, :, 0].transpose(1, 2)
    torch.testing.assert_close(rows, linear(x))
    assert conv.weight.data_ptr() == linear.weight.data_ptr()


def test_a_1x1_convolution_is_taken_as_it_is() -> None:
    source = nn.Conv2d(6, 4, 1)
    x = torch.randn(2, 6, 3, 3)
    torch.testing.assert_close(linear_to_conv(source)(x), source(x))


@pytest.mark.parametrize(
    "source",
    [
        nn.Conv2d(6, 4, 3),
        nn.Conv2d(6, 4, 1, stride=2),
        nn.Conv2d(6, 4, 1, padding=1),
        nn.Conv2d(6, 4, 1, groups=2),
        nn.Bilinear(6, 6, 4),
        nn.Sequential(nn.Linear(6, 4)),
    ],
    ids=["3x3", "strided", "padded", "grouped", "another kind", "wrapped"],
)
def test_what_does_more_is_refused(source: nn.Module) -> None:
    with pytest.raises(UserError, match="plain Linear"):
        linear_to_conv(source)
