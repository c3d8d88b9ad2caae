"""The norm and activation before a network's last convolution."""

from __future__ import annotations

from typing import Any

from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.group_norm import NormSiLU
from coreml_sd.mobile.options import MobileOptions


class OutputNorm(NormSiLU):
    """Group norm and SiLU on `(B, C, H, W)`.

    Raises:
        UserError: no group norm, or another activation.
    """

    def __init__(self, norm: Any, activation: Any, options: MobileOptions) -> None:
        if not isinstance(activation, nn.SiLU):
            raise UserError(f"output activation {type(activation).__name__} has no mobile form")
        super().__init__(norm, options)
