"""Layer weights on their way from the source to weight.bin, a few of them in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from coreml_sd.compress.bits import packed_size
from coreml_sd.compress.palette import Palette
from coreml_sd.compress.weight_by_weight import for_each_weight
from coreml_sd.models.weights.values import Weights, fp16_value, fp32_value
from coreml_sd.targets.coreml.weight_file import WeightFile

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerPayload:
    """One weight in the file: all of it, or the indices of its palette.

    `element` and `shape` are the payload's, as the file declares them.
    """

    offset: int
    element: str
    shape: Shape
    palette: Palette | None = None


def write_layers(
    file: WeightFile,
    shapes: Mapping[str, Shape],
    weights: Weights,
    palettes: Mapping[str, Palette],
    *,
    dense: Literal["float16", "float32"],
    sub_byte: bool,
    workers: int | None = None,
) -> dict[str, LayerPayload]:
    """Write the weights of `shapes`, in that order.

    Args:
        dense: how weights without a palette are stored.
        sub_byte: whether the system knows types of fewer than 8 bits; else indices are bytes that
            hold several.
        workers: threads.

    Raises:
        UserError: a weight is damaged or does not fit in fp16.
    """
    payloads = {
        name: _reserved(file, shape, palettes.get(name), dense, sub_byte)
        for name, shape in shapes.items()
    }
    for_each_weight(lambda name: _fill(file, weights, name, payloads[name]), payloads, workers)
    return payloads


def _reserved(
    file: WeightFile, shape: Shape, palette: Palette | None, dense: str, sub_byte: bool
) -> LayerPayload:
    count = math.prod(shape)
    if palette is None:
        size = count * (2 if dense == "float16" else 4)
        return LayerPayload(file.reserve(dense, size), dense, shape)
    size = packed_size(count, palette.bits)
    if sub_byte:
        element, declared, unused = f"uint{palette.bits}", shape, 8 * size - count * palette.bits
    else:
        element, declared, unused = "uint8", (size,), 0
    return LayerPayload(file.reserve(element, size, unused), element, declared, palette)


def _fill(file: WeightFile, weights: Weights, name: str, payload: LayerPayload) -> None:
    if payload.palette is not None:
        file.fill(payload.offset, payload.palette.packed(fp16_value(weights, name)))
    elif payload.element == "float16":
        file.fill(payload.offset, fp16_value(weights, name))
    else:
        file.fill(payload.offset, fp32_value(weights, name))
