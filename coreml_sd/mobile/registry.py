"""Which rewrite belongs to which component."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.options import MobileOptions
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.mobile.text_encoder import penultimate_text_encoder_steps, text_encoder_steps
from coreml_sd.mobile.unet import unet_steps
from coreml_sd.mobile.vae import vae_decoder_steps, vae_encoder_steps
from coreml_sd.mobile.weights import check_all_weights_used

_Builder = Callable[[nn.Module, MobileOptions], StepSequence]

# The builder of each form, and the parts of the source whose weights it must use.
_COMPONENTS: dict[str, tuple[_Builder, tuple[str, ...]]] = {
    "text_encoder": (text_encoder_steps, ("",)),
    "penultimate_text_encoder": (penultimate_text_encoder_steps, ("",)),
    "unet": (unet_steps, ("",)),
    "vae_decoder": (vae_decoder_steps, ("post_quant_conv.", "decoder.")),
    "vae_encoder": (vae_encoder_steps, ("encoder.", "quant_conv.")),
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
    build, parts = _COMPONENTS[component_name]
    sequence = build(source_module, options)
    check_all_weights_used(component_name, source_module, sequence, parts)
    return sequence.eval()
