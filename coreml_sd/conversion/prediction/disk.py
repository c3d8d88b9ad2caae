"""Bytes of a bundle, from the plan of what is stored how."""

from __future__ import annotations

import math

from coreml_sd.conversion.plan import Plan
from coreml_sd.conversion.prediction.layers import NetworkSize
from coreml_sd.conversion.prediction.rates import Rates
from coreml_sd.models.folder.tokenizer_files import MERGES_NAME, VOCAB_NAME

_FP16, _FP32 = 2, 4
_PER_CHANNEL = 12  # int8 in a .tflite: a scale and a zero point
TFLITE_WEIGHT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "dynamic-int8": 1}


def bundle_bytes(plan: Plan, sizes: dict[str, NetworkSize], rates: Rates) -> int:
    """Bytes of all files of the bundle: weights as they will be stored (indices, tables, what
    stays fp16), programs, the tokenizer and the manifest."""
    total = _tokenizer_bytes(plan) + _manifest_bytes(plan, sizes, rates)
    for name, size in sizes.items():
        total += weight_bytes(plan, name, size) + _program_bytes(plan, name, size, rates)
    return int(total)


def weight_bytes(plan: Plan, component: str, size: NetworkSize) -> int:
    """Bytes of one component's weights for all targets."""
    total = sum(target_bytes(plan, target, component, size) for target in plan.config.targets)
    kept = 1 - (plan.config.prune or 0) if component == "unet" else 1
    return int(total * kept)


def target_bytes(plan: Plan, target: str, component: str, size: NetworkSize) -> int:
    """Bytes of one component's weights for one target, nothing pruned."""
    if target == "coreml":
        return _coreml_bytes(plan, size)
    assert plan.android is not None
    return _tflite_bytes(plan.android.quantization_of(component), size)


def _coreml_bytes(plan: Plan, size: NetworkSize) -> int:
    from coreml_sd.compress.choose import stored_bytes
    from coreml_sd.compress.palette import blob_bytes

    layers = set(size.layers)
    return sum(
        stored_bytes(shape, plan.palettes)
        if name in layers
        else blob_bytes(_FP16 * math.prod(shape))
        for name, shape in size.shapes.items()
    )


def _tflite_bytes(quantization: str, size: NetworkSize) -> int:
    from coreml_sd.targets.tflite.quantize import stores_lookups_small

    layers, total = set(size.layers), 0
    for name, shape in size.shapes.items():
        small = name in layers
        if "token_embedding" in name:
            small = stores_lookups_small(quantization)  # type: ignore[arg-type]
        total += math.prod(shape) * (TFLITE_WEIGHT_BYTES[quantization] if small else _FP32)
        if small and "int8" in quantization:
            total += _PER_CHANNEL * shape[0]
    return total


def _program_bytes(plan: Plan, component: str, size: NetworkSize, rates: Rates) -> float:
    each = (rates.program_bytes(target, component) for target in plan.config.targets)
    return sum(each) * len(size.layers)


def _tokenizer_bytes(plan: Plan) -> int:
    """The vocabulary and its merges; a joined file holds both and little else."""
    folder = plan.model.folder.path / "tokenizer"
    files = [folder / name for name in (VOCAB_NAME, MERGES_NAME)]
    held = sum(file.stat().st_size for file in files if file.is_file())
    joined = folder / "tokenizer.json"
    return held or (joined.stat().st_size if joined.is_file() else 0)


def _manifest_bytes(plan: Plan, sizes: dict[str, NetworkSize], rates: Rates) -> float:
    recorded = sum(len(size.layers) for size in sizes.values()) if plan.palettes else 0
    return rates.manifest["bytes"] + rates.manifest["bytes_per_palette"] * recorded
