"""Convolutions too large for a GPU's images, run as several smaller ones in a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil
from typing import Literal

import torch
from torch import nn

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.mobile.layer_weights import not_plain, shared
from coreml_sd.mobile.measure import tensor_shapes
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import TensorSpec

Along = Literal["input", "output"]
Fits = Callable[[int, int, int, int], bool]  # channels in, channels out, height, width

# Channels that share a texel of a GPU image: parts that are multiples of it are joined by copies.
SLICE = 4

# Up to this many, parts of equal size are preferred (the paper splits 640 into 8, though 6 uneven
# parts would fit): one kernel then runs them all.
_MOST_EQUAL_PARTS = 16


class SerializedConv(nn.Module):
    """A plain `nn.Conv2d` on `(B, C, H, W)` as a convolution per entry of `sizes`.

    Along the input the channels of x are split into `sizes` and the results summed, the bias
    added once; along the output each part makes `sizes` of the channels. The parts, registered
    as `parts.0`, `parts.1`, ..., view the storage of the source's weight and bias. Equal to the
    source up to the order of summation.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.2).

    Raises:
        UserError: the source is not a plain Conv2d.
        CoremlSDError: a grouped convolution, or sizes that are not its channels.
    """

    def __init__(self, source: nn.Module, sizes: Sequence[int], along: Along = "input") -> None:
        super().__init__()
        if type(source) is not nn.Conv2d:
            raise not_plain(source, "Conv2d")
        channels = source.in_channels if along == "input" else source.out_channels
        if source.groups != 1 or sum(sizes) != channels:
            raise CoremlSDError(f"{channels} {along} channels cannot be split into {list(sizes)}")
        self.sizes = tuple(sizes)
        self.along = along
        self.parts = nn.ModuleList(_parts(source, self.sizes, along))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.along == "output":
            return torch.cat([part(x) for part in self.parts], dim=1)
        first, *others = x.split(self.sizes, dim=1)  # type: ignore[no-untyped-call]
        total: torch.Tensor = self.parts[0](first)
        for part, piece in zip(self.parts[1:], others, strict=True):
            total = total + part(piece)
        return total


@dataclass(frozen=True)
class SplitRecord:
    """One convolution that was split: its path, its shape, and the channels of its parts."""

    name: str
    channels_in: int
    channels_out: int
    height: int
    width: int
    along: Along
    parts: tuple[int, ...]


def serialize_convolutions(
    network: StepSequence, inputs: Sequence[TensorSpec], fits: Fits, along: Along = "input"
) -> list[SplitRecord]:
    """Split, in place, every 3x3 convolution of stride 1 for which `fits` says no.

    `fits` takes the channels in and out and the height and width of the input map. The fewest
    equal parts that fit are taken; where no number up to 16 gives such, the fewest uneven ones.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.2): input
    split by default, because it is the faster one.

    Raises:
        UserError: no number of parts makes a convolution fit.
    """
    records = []
    for name, conv, (height, width) in _convolutions(network, inputs):
        channels = (conv.in_channels, conv.out_channels)
        if fits(*channels, height, width):
            continue
        sizes = _fitting_split(*channels, height, width, fits, along)
        if sizes is None:
            raise UserError(
                f"{name}: a convolution of {channels[0]} to {channels[1]} channels at "
                f"{height}x{width} does not fit, however it is split along the {along}: "
                "choose another profile or a smaller size"
            )
        _replace(network, name, conv, SerializedConv(conv, sizes, along))
        records.append(SplitRecord(name, *channels, height, width, along, sizes))
    return records


def even_split(channels: int, count: int) -> tuple[int, ...]:
    """`channels` in `count` parts that differ by a slice of four at most.

    All are multiples of four, but the last one where `channels` is none.
    """
    slices = ceil(channels / SLICE)
    ends = [min(channels, SLICE * (slices * i // count)) for i in range(count)] + [channels]
    return tuple(end - begin for begin, end in pairwise(ends))


def _fitting_split(
    channels_in: int, channels_out: int, height: int, width: int, fits: Fits, along: Along
) -> tuple[int, ...] | None:
    channels = channels_in if along == "input" else channels_out

    def uneven(count: int) -> bool:
        return count > _MOST_EQUAL_PARTS or channels % (SLICE * count) != 0

    for count in sorted(range(2, ceil(channels / SLICE) + 1), key=uneven):
        sizes = even_split(channels, count)
        shapes = ((s, channels_out) if along == "input" else (channels_in, s) for s in sizes)
        if all(fits(*shape, height, width) for shape in shapes):
            return sizes
    return None


def _parts(source: nn.Conv2d, sizes: Sequence[int], along: Along) -> Iterator[nn.Conv2d]:
    for begin, end in pairwise(accumulate(sizes, initial=0)):
        if along == "input":
            weight, bias = source.weight[:, begin:end], source.bias if begin == 0 else None
        else:
            weight = source.weight[begin:end]
            bias = None if source.bias is None else source.bias[begin:end]
        part = nn.Conv2d(
            weight.shape[1],
            weight.shape[0],
            source.kernel_size,  # type: ignore[arg-type]
            source.stride,  # type: ignore[arg-type]
            source.padding,  # type: ignore[arg-type]
            source.dilation,  # type: ignore[arg-type]
            bias=bias is not None,
            padding_mode=source.padding_mode,
            device="meta",  # storage comes from the source
        )
        part.weight = shared(weight)
        if bias is not None:
            part.bias = shared(bias)
        yield part


def _convolutions(
    network: StepSequence, inputs: Sequence[TensorSpec]
) -> list[tuple[str, nn.Conv2d, tuple[int, int]]]:
    """The 3x3 convolutions of stride 1 in order of execution, with the size of their input."""
    found: list[tuple[str, nn.Conv2d, tuple[int, int]]] = []

    def noting(name: str, conv: nn.Conv2d) -> Callable[[nn.Module, tuple[torch.Tensor]], None]:
        def hook(_: nn.Module, arguments: tuple[torch.Tensor]) -> None:
            height, width = arguments[0].shape[2:]
            found.append((name, conv, (height, width)))

        return hook

    hooks = [
        module.register_forward_pre_hook(noting(name, module))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and _is_plain_3x3(module)
    ]
    try:
        tensor_shapes(network, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _is_plain_3x3(conv: nn.Conv2d) -> bool:
    form = (conv.kernel_size, conv.stride, conv.dilation, conv.groups)
    return form == ((3, 3), (1, 1), (1, 1), 1)


def _replace(network: StepSequence, name: str, old: nn.Module, new: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, new)
    network.steps = tuple(
        dataclasses.replace(step, module=new) if step.module is old else step
        for step in network.steps
    )
