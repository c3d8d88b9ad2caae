"""Keep a VAE's activations inside fp16: measure them, and scale its residual stream where needed.

The blocks of a VAE add to one stream, and every branch begins with a group norm, which does not
care how large its input is. So the whole stream may be made smaller by a factor if everything that
writes to it is, and the last norm gives what it gave before. The same holds inside a block, between
its first convolution and its second norm. No op is added, and all ops stay in fp16.

The idea is that of the public "fp16-fix" of Stable Diffusion XL's VAE, which was trained to have
smaller activations; here nothing is trained and the numbers stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from coreml_sd.metrics import psnr_db
from coreml_sd.models.component import ComponentSpec

# A sixteenth of what fp16 holds: the measurement sees one small picture, and an accelerator may sum
# a convolution in fp16.
CEILING = 4096.0
_HALVES = {"latent_decoder": "decoder", "latent_encoder": "encoder"}
_SIDE = 16  # of the latent that is run; the networks are convolutional
_SEED = 0
_MOST_DB = 200.0  # in place of infinity, which JSON does not have


@dataclass(frozen=True)
class Rescaling:
    """`peak`: the largest activation that was measured; `factor`: a power of two that the stream
    was multiplied with; `source_db`: dB of the outputs to those of before."""

    peak: float
    factor: float
    source_db: float

    @property
    def sentence(self) -> str:
        """For the notes of a conversion."""
        return (
            f"activations reach {self.peak:,.0f} in torch and fp16 ends at 65,504: the residual "
            f"stream is scaled by 1/{round(1 / self.factor)}, which changes no output"
        )


def may_leave_fp16(component: ComponentSpec, network: Any) -> bool:
    """Whether a network is a VAE whose config says `force_upcast`."""
    return component.role in _HALVES and bool(network.config.get("force_upcast"))


def bring_into_range(component: ComponentSpec, network: Any) -> Rescaling | None:
    """Rescale the half of a VAE that a component uses, in place, if its activations ask for it.

    None where it may not leave fp16 or does not.
    """
    if not may_leave_fp16(component, network):
        return None
    half = _HALVES[component.role]
    before, peak = _measure(component, network)
    if peak <= CEILING:
        return None
    factor = 2.0 ** math.floor(math.log2(CEILING / peak))
    rescale(getattr(network, half), factor)
    after, _ = _measure(component, network)
    return Rescaling(round(peak, 1), factor, round(min(psnr_db(before, after), _MOST_DB), 2))


def _measure(component: ComponentSpec, network: Any) -> tuple[torch.Tensor, float]:
    """The output for a small input, and the largest magnitude that a convolution or a block gives
    on the way."""
    half = getattr(network, _HALVES[component.role])
    peaks = [0.0]

    def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
        peaks.append(float(output.abs().amax()))

    hooks = [module.register_forward_hook(look) for module in _writers(half)]
    try:
        with torch.inference_mode():
            (given,) = component.sample_inputs(_SEED).values()
            (shape,) = (spec.shape for spec in component.outputs)
            scale = max(1, given.shape[2] // shape[2])  # an encoder's pictures are larger
            side = _SIDE * scale
            small = torch.from_numpy(given[:, :, :side, :side]).float()
            (output,) = component.published(network)(small)
    finally:
        for hook in hooks:
            hook.remove()
    return output, max(peaks)


def rescale(half: nn.Module, factor: float) -> None:
    """Multiply all activations of a decoder or an encoder of diffusers between its first
    convolution and its last norm by `factor`, a power of two; its output stays."""
    network: Any = half
    with torch.no_grad():
        _scale(network.conv_in, factor)
        for resnet in _resnets(network):
            for norm in (resnet.norm1, resnet.norm2):
                norm.eps *= factor**2
            # What comes after a norm is of the old size; what acts on the stream is scaled by it.
            _scale(resnet.conv1, factor)
            _scale(resnet.conv2, factor)
            if resnet.conv_shortcut is not None:
                _scale_bias(resnet.conv_shortcut, factor)
        for attention in network.mid_block.attentions:
            if attention is not None:
                attention.group_norm.eps *= factor**2
                _scale(attention.to_out[0], factor)
        for sampler in _samplers(network):
            _scale_bias(sampler.conv, factor)
        network.conv_norm_out.eps *= factor**2


def _scale(layer: Any, factor: float) -> None:
    layer.weight.mul_(factor)
    _scale_bias(layer, factor)


def _scale_bias(layer: Any, factor: float) -> None:
    if layer.bias is not None:
        layer.bias.mul_(factor)


def _resnets(half: Any) -> Iterator[Any]:
    yield from half.mid_block.resnets
    for block in _blocks(half):
        yield from block.resnets


def _samplers(half: Any) -> Iterator[Any]:
    for block in _blocks(half):
        for kind in ("upsamplers", "downsamplers"):
            yield from getattr(block, kind, None) or ()


def _blocks(half: Any) -> Any:
    return half.up_blocks if hasattr(half, "up_blocks") else half.down_blocks


def _writers(half: Any) -> Iterator[nn.Module]:
    yield half.conv_in
    for resnet in _resnets(half):
        yield from (resnet, resnet.conv1, resnet.conv2)
    yield from (attention for attention in half.mid_block.attentions if attention is not None)
    yield from (sampler.conv for sampler in _samplers(half))
