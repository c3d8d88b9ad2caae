"""The mobile form: a network rewritten so that phones run it well, with the same numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coreml_sd.mobile.options import Attention, MobileOptions

if TYPE_CHECKING:
    from torch import nn

    from coreml_sd.mobile.steps import StepSequence

__all__ = ["Attention", "MobileOptions", "mobile_form"]


def mobile_form(
    component_name: str, source_module: nn.Module, options: MobileOptions | None = None
) -> StepSequence:
    """The mobile form of a component, sharing the weights of `source_module`.

    Channels-first `(B, C, 1, S)` transformer bodies, 1x1 convolutions instead of linear layers,
    no tensor above rank 4. Parameters keep the names of the source's state dict. The source is
    neither copied nor changed. Inputs and outputs are those of the exported file.

    Raises:
        UserError: the component, a module or a config option has no mobile form.
    """
    from coreml_sd.mobile.registry import build_mobile_form  # brings torch and diffusers

    return build_mobile_form(component_name, source_module, options or MobileOptions())
