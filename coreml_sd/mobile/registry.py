"""Which rewrite belongs to which component."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.layer_weights import check_all_weights_used
from coreml_sd.mobile.options import MobileOptions
from coreml_sd.mobile.steps import StepSequence

_Builder = Callable[[nn.Module, MobileOptions], StepSequence]

# The module and the builder of each form, and the parts of the source whose weights it must use. A
# module is loaded when it is needed: that of the text encoder brings transformers.
_COMPONENTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "text_encoder": ("text_encoder", "text_encoder_steps", ("",)),
    "penultimate_text_encoder": ("text_encoder", "penultimate_text_encoder_steps", ("",)),
    "unet": ("unet", "unet_steps", ("",)),
    "mobile_diffusion_unet": ("mobile_diffusion", "mobile_diffusion_unet_steps", ("",)),
    "vae_decoder": ("vae", "vae_decoder_steps", ("post_quant_conv.", "decoder.")),
    "vae_encoder": ("vae", "vae_encoder_steps", ("encoder.", "quant_conv.")),
}


def build_mobile_form(
    component_name: str, source_module: nn.Module, options: MobileOptions
) -> StepSequence:
    """Build the mobile form and check that every weight of the source has its place in it.

    Raises:
        UserError: see `coreml_sd.mobile.mobile_form`.
    """
    if component_name not in _COMPONENTS:
        known = ", ".join(_COMPONENTS)
        raise UserError(f"component {component_name!r} has no mobile form: known are {known}")
    module, name, parts = _COMPONENTS[component_name]
    build: _Builder = getattr(importlib.import_module(f"coreml_sd.mobile.{module}"), name)
    sequence = build(source_module, options)
    check_all_weights_used(component_name, source_module, sequence, parts)
    return sequence.eval()
