"""The mobile form of one component as an Android profile wants it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.mobile.cut_table import cut_tables
from coreml_sd.mobile.serialized_conv import SplitRecord, serialize_convolutions
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import ComponentSpec
from coreml_sd.targets.tflite.profiles import Profile


@dataclass(frozen=True)
class AndroidForm:
    """A network ready for export, and the convolutions that were split for the profile (T1.2)."""

    network: StepSequence
    splits: tuple[SplitRecord, ...]


def android_form(component: ComponentSpec, source: nn.Module, profile: Profile) -> AndroidForm:
    """Rewrite one component; weights are shared with `source`.

    A text encoder gives its states only: picking the pooled output needs ops that the GPU
    delegate does not have, and an app can take the row of the end token itself. Those of Stable
    Diffusion XL, whose UNet takes the pooled output, pick it with ops that it has.

    Raises:
        UserError: a part of the network has no mobile form.
    """
    options = MobileOptions(
        attention="batched",
        layout="channels-last",
        batch=component.inputs[0].shape[0],
        score_limit=profile.tensor_limit,
        # XNNPACK computes in fp32; the GPU delegate in fp16 unless told otherwise.
        arithmetic="fp32" if profile.accelerator == "cpu" else "fp16",
        gelu=profile.gelu,
        pooled=False,
    )
    network = mobile_form(component.form, source, options)
    if profile.table_limit:
        cut_tables(network, profile.table_limit)
    splits = serialize_convolutions(network, component.inputs, profile.convolution_fits)
    return AndroidForm(network, tuple(splits))
