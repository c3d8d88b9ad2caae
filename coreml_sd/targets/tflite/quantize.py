"""Quantize the weights of a .tflite: fp16, int8 that is dequantized, or dynamic int8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.targets.tflite.packed_file import write_packed
from coreml_sd.targets.tflite.profiles import Quantization
from coreml_sd.upstream.ai_edge_litert_faults import refuses_fp16_lookup
from coreml_sd.upstream.ai_edge_quantizer_faults import worked_around
from coreml_sd.upstream.noise import quiet_native

if TYPE_CHECKING:
    from coreml_sd.targets.tflite.exported import Exported

# Networks whose pictures show int8 weights: they keep fp16 when int8 is asked for.
KEPT_IN_FP16 = ("vae_decoder", "vae_encoder")
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_LOOKUP = "EMBEDDING_LOOKUP"
_EVERYWHERE = ".*"


def for_component(component: str, asked: Quantization) -> Quantization:
    """What a component gets when `asked` is the quantization of the whole."""
    return "fp16" if component in KEPT_IN_FP16 and asked not in ("fp32", "fp16") else asked


def quantize_file(
    source: Path,
    destination: Path,
    quantization: Quantization,
    ops: Sequence[str] = CONVOLUTIONS,
) -> None:
    """Write a fp32 .tflite again with quantized weights.

    `fp16` and `int8` store the weights small and dequantize them before each op, so that CPU and
    GPU compute the same in floating point (W8A16; T1.5); `dynamic-int8` also rounds the
    activations to int8 at run time, on CPU. int8 is symmetric with one scale per output channel.
    Biases and norms stay fp32. With fp16 so does the table of token embeddings: the GPU delegate
    refuses the lookup otherwise. `ops` are the kinds whose weights are quantized; the mobile form
    has no others.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.5).

    Raises:
        CoremlSDError: the quantizer fails.
    """
    from ai_edge_quantizer import quantizer

    if quantization == "fp32":
        source.replace(destination)
        return
    _quantize(source.name, lambda: quantizer.Quantizer(str(source)), destination, quantization, ops)


def quantize_exported(exported: Exported, destination: Path, quantization: Quantization) -> None:
    """The same of what was just exported, without a fp32 file between.

    Raises:
        CoremlSDError: the quantizer fails.
        UserError: a file of weights cannot be read.
    """
    if quantization == "fp32":
        exported.write(destination)
        return
    _quantize(destination.name, exported.quantizer, destination, quantization, CONVOLUTIONS)


def _quantize(
    name: str,
    open_quantizer: Callable[[], Any],
    destination: Path,
    quantization: Quantization,
    ops: Sequence[str],
) -> None:
    with quiet_native() as noise, worked_around(write_packed):
        try:
            worker = open_quantizer()
            worker.load_quantization_recipe(recipe(quantization, ops))
            worker.quantize(serialize_to_path=str(destination))  # else it is held in memory too
        except UserError:
            raise
        except Exception as error:  # the quantizer raises many kinds
            reason = str(error).strip() or noise()
            raise CoremlSDError(
                f"{name}: could not be quantized to {quantization}: {reason}"
            ) from (error)


def stores_lookups_small(quantization: Quantization) -> bool:
    """Whether tables of embeddings are quantized too."""
    return quantization != "fp32" and not (quantization == "fp16" and refuses_fp16_lookup())


def int8_weight(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a weight `(C_out, ...)` is after int8: symmetric, one scale per output channel."""
    rows = weight.reshape(weight.shape[0], -1)
    scale = np.abs(rows).max(axis=1, keepdims=True) / 127
    scale[scale == 0] = 1
    rounded = np.clip(np.rint(rows / scale), -127, 127)
    result: NDArray[np.float32] = (rounded * scale).astype(np.float32).reshape(weight.shape)
    return result


def recipe(quantization: Quantization, ops: Sequence[str] = CONVOLUTIONS) -> Any:
    """What ai-edge-quantizer is to do with the weights of `ops` (builtin operators, by name) and
    with tables of embeddings."""
    from ai_edge_quantizer import recipe_manager

    manager = recipe_manager.RecipeManager()
    if quantization == "fp16":
        lookups = (_LOOKUP,) if stores_lookups_small(quantization) else ()
        for name in (*ops, *lookups):
            manager.add_weight_only_config(
                _EVERYWHERE, _operation(name), num_bits=16, algorithm_key="float_casting"
            )
    else:
        add = (
            manager.add_weight_only_config if quantization == "int8" else manager.add_dynamic_config
        )
        for name in ops:
            add(_EVERYWHERE, _operation(name), num_bits=8)
        # A lookup turns the rows it reads to float by itself in both cases.
        manager.add_dynamic_config(_EVERYWHERE, _operation(_LOOKUP), num_bits=8)
    return manager.get_quantization_recipe()


def _operation(name: str) -> Any:
    from ai_edge_quantizer import qtyping

    return qtyping.TFLOperationName[name]
