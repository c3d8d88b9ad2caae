"""Bytes of the weights of packages, before there are any."""

from __future__ import annotations

import math

from coreml_sd.compress.choose import stored_bytes
from coreml_sd.compress.palette import blob_bytes
from coreml_sd.compress.supported import PaletteSpec
from coreml_sd.costs.network_size import NetworkSize

_FP16 = 2


def package_weight_bytes(palettes: PaletteSpec | None, size: NetworkSize) -> int:
    """Layers as indices and tables, all else in fp16."""
    layers = set(size.layers)
    return sum(
        stored_bytes(shape, palettes) if name in layers else blob_bytes(_FP16 * math.prod(shape))
        for name, shape in size.shapes.items()
    )
