"""Linear layers as 1x1 convolutions on channels-first sequences."""

from __future__ import annotations

from torch import nn

from coreml_sd.mobile.layer_weights import not_plain, shared


def linear_to_conv(source: nn.Module) -> nn.Conv2d:
    """A 1x1 convolution on `(B, C_in, 1, S)` equal to `source` on `(B, S, C_in)`.

    The weight is the source's storage seen as `(C_out, C_in, 1, 1)`. A 1x1 Conv2d is taken as
    it is, so that both kinds of projection layers of a transformer can be given.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.1); the
    Neural Engine asks for the same form.

    Raises:
        UserError: the layer is neither a plain Linear nor a plain 1x1 Conv2d.
    """
    if type(source) is nn.Linear:
        weight = source.weight.detach()[:, :, None, None]
    elif type(source) is nn.Conv2d and _mixes_channels_only(source):
        weight = source.weight
    else:
        raise not_plain(source, "Linear")
    conv = nn.Conv2d(
        weight.shape[1], weight.shape[0], 1, bias=source.bias is not None, device="meta"
    )
    conv.weight = shared(weight)
    if source.bias is not None:
        conv.bias = shared(source.bias)
    return conv


def _mixes_channels_only(conv: nn.Conv2d) -> bool:
    kernel, stride, padding = conv.kernel_size, conv.stride, conv.padding
    return (kernel, stride, padding, conv.groups) == ((1, 1), (1, 1), (0, 0), 1)
