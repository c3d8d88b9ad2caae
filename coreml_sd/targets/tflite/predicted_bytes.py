"""Bytes of the weights of a .tflite, before there is one."""

from __future__ import annotations

import math

from coreml_sd.costs.network_size import NetworkSize
from coreml_sd.targets.tflite.profiles import Quantization
from coreml_sd.targets.tflite.quantize import stores_lookups_small

WEIGHT_BYTES: dict[Quantization, int] = {"fp32": 4, "fp16": 2, "int8": 1, "dynamic-int8": 1}
_PER_CHANNEL = 12  # int8: a scale and a zero point


def file_weight_bytes(quantization: Quantization, size: NetworkSize) -> int:
    """Layers as the quantization has them, all else in fp32."""
    layers, total = set(size.layers), 0
    for name, shape in size.shapes.items():
        small = name in layers
        if "token_embedding" in name:
            small = stores_lookups_small(quantization)
        total += math.prod(shape) * WEIGHT_BYTES[quantization if small else "fp32"]
        if small and "int8" in quantization:
            total += _PER_CHANNEL * shape[0]
    return total
