"""Layer norm over channels: that of torch, for values that are as small as its epsilon too."""

import pytest
import torch
from torch import nn

from coreml_sd.mobile.layer_norm import ChannelLayerNorm


@pytest.mark.parametrize("scale", [1.0, 1e-3, 0.0])
def test_small_values_are_divided_by_epsilon_too(scale: float) -> None:
    torch.manual_seed(0)
    norm = nn.LayerNorm(24)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = scale * torch.randn(2, 24, 1, 7)
    expected = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ChannelLayerNorm(norm)(x), expected)
