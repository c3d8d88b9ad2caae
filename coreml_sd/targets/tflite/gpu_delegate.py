"""What the LiteRT GPU delegate takes: its list of ops, and the forms of them that it refuses.

Source: `CheckGpuDelegateCompatibility` of LiteRT (tflite/tools/versioning/gpu_compatibility.cc),
and what the delegate was measured to accept.
"""

from __future__ import annotations

from collections.abc import Callable

from coreml_sd.runtimes.litert.file import Op, Tensor, TFLiteFile

# fmt: off
SUPPORTED = frozenset(
    {
        "ABS", "ADD", "ADD_N", "ATAN2", "AVERAGE_POOL_2D", "BATCH_MATMUL", "BITCAST", "CAST",
        "CEIL", "CONCATENATION", "CONV_2D", "COS", "CUMSUM", "DENSIFY", "DEPTHWISE_CONV_2D",
        "DEPTH_TO_SPACE", "DEQUANTIZE", "DIV", "DYNAMIC_UPDATE_SLICE", "ELU", "EMBEDDING_LOOKUP",
        "EQUAL", "EXP", "FLOOR", "FLOOR_DIV", "FLOOR_MOD", "FULLY_CONNECTED", "GATHER", "GELU",
        "GREATER", "GREATER_EQUAL", "HARD_SWISH", "LEAKY_RELU", "LESS", "LESS_EQUAL", "LOG",
        "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "LOGISTIC", "LSTM", "MAXIMUM", "MAX_POOL_2D",
        "MEAN", "MINIMUM", "MIRROR_PAD", "MUL", "NEG", "NOT_EQUAL", "ONE_HOT", "PACK", "PAD",
        "PADV2", "POW", "PRELU", "QUANTIZE", "REDUCE_ALL", "REDUCE_ANY", "REDUCE_MAX",
        "REDUCE_MIN", "REDUCE_PROD", "RELU", "RELU6", "RELU_N1_TO_1", "RESHAPE", "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "RIGHT_SHIFT", "ROUND", "RSQRT", "SELECT",
        "SELECT_V2", "SIGN", "SIN", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT", "SPLIT_V",
        "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "STABLEHLO_BROADCAST_IN_DIM", "STABLEHLO_CBRT",
        "STABLEHLO_CLAMP", "STABLEHLO_REMAINDER", "STABLEHLO_SHIFT_LEFT", "STRIDED_SLICE", "SUB",
        "SUM", "TANH", "TILE", "TOPK_V2", "TRANSPOSE", "TRANSPOSE_CONV",
    }
)
# fmt: on

_CASTS = {("float32", "int32"), ("int32", "float32"), ("float32", "float32"), ("int32", "int32")}
_CASTS |= {("bool", kind) for kind in ("float16", "float32")}
_CASTS |= {(kind, "bool") for kind in ("float16", "float32")}
_TABLES = ("float32", "int8", "int4")  # of an embedding: fp16 ones fail at compilation


def refused_form(file: TFLiteFile, op: Op) -> str | None:
    """Why the delegate refuses an op of its list in this form; None where it takes it."""
    check = _FORMS.get(op.kind)
    return check(file, op) if check else None


def _input(op: Op, place: int) -> Tensor | None:
    return op.inputs[place] if place < len(op.inputs) else None


def _cast(file: TFLiteFile, op: Op) -> str | None:
    source, result = _input(op, 0), op.outputs[0]
    if source is None or (source.dtype, result.dtype) in _CASTS:
        return None
    return f"casts {source.dtype} to {result.dtype}, which is not among its casts"


def _slice(file: TFLiteFile, op: Op) -> str | None:
    source = _input(op, 0)
    if source is None or len(source.shape) in (3, 4):
        return None
    return f"slices a tensor of rank {len(source.shape)}; it slices ranks 3 and 4"


def _strided_slice(file: TFLiteFile, op: Op) -> str | None:
    masks = {
        "ellipsis": "EllipsisMask",
        "new axis": "NewAxisMask",
        "shrink axis": "ShrinkAxisMask",
    }
    used = [name for name, option in masks.items() if file.option(op, option, 0)]
    return f"uses the {used[0]} mask, which it lacks" if used else _slice(file, op)


def _softmax(file: TFLiteFile, op: Op) -> str | None:
    beta = file.option(op, "Beta", 1.0)
    return None if beta == 1 else f"scales by beta {beta:g}; it knows beta 1 alone"


def _embedding(file: TFLiteFile, op: Op) -> str | None:
    ids, table = _input(op, 0), _input(op, 1)
    if ids is not None and len(ids.shape) != 1:
        return f"takes ids of rank {len(ids.shape)}; it wants rank 1"
    if table is not None and table.dtype not in _TABLES:
        return f"reads a table of {table.dtype}; it wants {', '.join(_TABLES)}"
    return None


def _gather(file: TFLiteFile, op: Op) -> str | None:
    ids = _input(op, 1)
    if ids is None or (len(ids.shape) == 1 and ids.dtype == "int32"):
        return None
    return f"takes {ids.dtype} indices of rank {len(ids.shape)}; it wants int32 of rank 1"


def _pad(file: TFLiteFile, op: Op) -> str | None:
    widths = _input(op, 1)
    if widths is None or widths.shape in ((3, 2), (4, 2)):
        return None
    return f"pads {widths.shape[0] if widths.shape else 0} axes; it pads 3 or 4"


def _dequantize(file: TFLiteFile, op: Op) -> str | None:
    source = _input(op, 0)
    return "reads int16" if source is not None and source.dtype == "int16" else None


def _reduction(file: TFLiteFile, op: Op) -> str | None:
    axes = _input(op, 1)
    return None if axes is not None and axes.is_constant else "reduces over axes that are computed"


_FORMS: dict[str, Callable[[TFLiteFile, Op], str | None]] = {
    "CAST": _cast,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "SOFTMAX": _softmax,
    "EMBEDDING_LOOKUP": _embedding,
    "GATHER": _gather,
    "PAD": _pad,
    "PADV2": _pad,
    "MIRROR_PAD": _pad,
    "DEQUANTIZE": _dequantize,
    **dict.fromkeys(
        ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"),
        _reduction,
    ),
}
