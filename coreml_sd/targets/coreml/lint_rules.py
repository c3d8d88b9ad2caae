"""Rules for .mlpackage files: shapes, ops and sizes that the Neural Engine does not take well."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod

from coreml_sd.lint.rule import Hit
from coreml_sd.targets.coreml.lint_view import (
    COREML,
    FLOATS,
    FunctionView,
    MilView,
    Node,
    Type,
    hit,
    layer_of,
)

# The Neural Engine computes on batch, channels, height and width; Core ML itself ends at rank 5.
COMFORTABLE_RANK = 4
HIGHEST_RANK = 5

# The last axis of a tensor is padded to this many bytes on the Neural Engine: a last axis of one
# fp16 value takes 32 times the memory.
PADDED_BYTES = 64
SMALL_TENSOR = 4096  # values: below it the padded tensor has at most 256 KiB, which is no matter

# Axes that the Neural Engine takes before M4; longer ones fall back to GPU or CPU.
LONGEST_AXIS = 16_384

# An fp16 sum above 2,048 has steps of 2 and loses small addends: with more keys than this, flat
# attention is summed wrongly. It is also where one head's map passes 32 MiB (64x64 positions).
MOST_KEYS = 4096

# Measured on M2 by third parties: the Neural Engine's compiler refuses single weights above it.
LARGEST_WEIGHT = 224 * 2**20

# iOS kills apps that load larger files at once (`--chunks auto` cuts there too); above 2 GB a
# program is refused.
COMFORTABLE_FILE = 1_000_000_000
LARGEST_FILE = 2_000_000_000

_GATHERS = ("gather", "gather_nd", "gather_along_axis")
_EMBEDDING_MARK = "embedding"


@COREML.rule("rank", "warning", "A tensor of more than four axes; above five it is an error.")
def rank(view: MilView) -> Iterator[Hit]:
    for _, node in view.nodes():
        highest = max((len(shape) for _, _, shape in node.op.outputs), default=0)
        if highest > COMFORTABLE_RANK:
            found = hit(
                node,
                f"its result has {highest} axes: "
                + (
                    "Core ML takes at most 5"
                    if highest > HIGHEST_RANK
                    else "the Neural Engine wants 4 and hands the op to GPU or CPU"
                ),
                "merge axes before the op (reshape to BxCxHxW or BxCx1xS)",
            )
            yield found._replace(severity="error") if highest > HIGHEST_RANK else found


@COREML.rule(
    "last-axis-one", "warning", "A large tensor whose last axis is 1: padded 32-fold in memory."
)
def last_axis_one(view: MilView) -> Iterator[Hit]:
    for function in view.functions:
        for name in function.inputs:
            if _is_thin(function.types[name]):
                yield Hit(f"input {name}", "", *_thin(function.types[name]))
        for node in function.nodes:
            read = [t for key in node.inputs for t in function.values(node, key)]
            before = max((_padded(each) for each in read), default=0)
            for name in node.outputs:
                result = function.types[name]
                if _is_thin(result) and _padded(result) > before:
                    yield hit(node, *_thin(result))


@COREML.rule(
    "linear", "warning", "linear, or matmul with a constant, where a convolution could be."
)
def linear(view: MilView) -> Iterator[Hit]:
    for function, node in view.nodes("linear", "matmul"):
        operands = [t for key in ("x", "y") for t in function.values(node, key)]
        if node.op.type == "linear" or any(operand.constant for operand in operands):
            yield hit(
                node,
                "the Neural Engine computes it as a slow reshaped convolution, in a layout "
                "(BxSxC) that it has to transpose",
                "make it a 1x1 convolution on BxCx1xS (coreml_sd/mobile/linear_to_conv.py)",
            )._replace(layer=_own_layer(node))


@COREML.rule("gather", "warning", "A gather; the embedding of tokens is a note.")
def gather(view: MilView) -> Iterator[Hit]:
    for function, node in view.nodes(*_GATHERS):
        if _is_embedding(function, node):
            yield hit(
                node,
                "picks the tokens' embeddings out of a table, which runs on the CPU on the "
                "Neural Engine before A17 and M2: once per prompt",
                "nothing to change: an embedding is a gather",
            )._replace(severity="note", layer=layer_of(node.inputs["x"][0]))
        else:
            yield hit(
                node,
                "the Neural Engine before A17 and M2 has no gather: the op runs on the CPU, with "
                "copies to and fro",
                "use slices, or a sum over a mask of zeros and one "
                "(coreml_sd/mobile/text_encoder.py)",
            )


@COREML.rule("huge-softmax", "warning", "A softmax over more than 4,096 values.")
def huge_softmax(view: MilView) -> Iterator[Hit]:
    for function, node in view.nodes("softmax"):
        shape = function.types[node.outputs[0]].shape
        keys = shape[_axis(function, node)]
        if keys > MOST_KEYS:
            yield hit(
                node,
                f"softmax over {keys:,} values: an fp16 sum above 2,048 loses small addends, and "
                f"one map of it takes {2 * keys * keys / 2**20:,.0f} MiB",
                "convert at a smaller size, attend within windows or over pooled keys",
            )


@COREML.rule("long-axis", "warning", "An axis longer than 16,384.")
def long_axis(view: MilView) -> Iterator[Hit]:
    for function, node in view.nodes():
        long = [
            size
            for name in node.outputs
            if function.types[name].element in FLOATS
            for size in function.types[name].shape
            if size > LONGEST_AXIS
        ]
        if long:
            yield hit(
                node,
                f"an axis of {long[0]:,}: the Neural Engine before M4 takes {LONGEST_AXIS:,}, the "
                "op falls back to GPU or CPU",
                "keep height and width apart, or split the axis in two",
            )


@COREML.rule("large-weight", "error", "One weight of more than 224 MiB.")
def large_weight(view: MilView) -> Iterator[Hit]:
    for weight in view.package.weight_storage():
        if weight.stored_bytes > LARGEST_WEIGHT:
            yield Hit(
                f"{weight.kind} {weight.name}",
                layer_of(weight.name),
                f"{weight.stored_bytes / 2**20:,.0f} MiB: the Neural Engine's compiler refuses "
                f"single weights over {LARGEST_WEIGHT / 2**20:,.0f} MiB",
                "palettize (--palettize 6 or less), or split the layer's output channels",
            )


@COREML.rule("large-file", "warning", "A file over 1 GB; over 2 GB it is an error.")
def large_file(view: MilView) -> Iterator[Hit]:
    size = sum(file.stat().st_size for file in view.package.path.rglob("*") if file.is_file())
    if size <= COMFORTABLE_FILE:
        return
    found = Hit(
        "file",
        "",
        f"{size / 1e9:.2f} GB: "
        + ("Core ML refuses programs over 2 GB" if size > LARGEST_FILE else "")
        + ("" if size > LARGEST_FILE else "iOS may kill an app that loads over 1 GB at once"),
        "palettize (--palettize 6 or less) or cut the network (--chunks auto)",
    )
    yield found._replace(severity="error") if size > LARGEST_FILE else found


def _is_thin(value: Type) -> bool:
    """Large and with a last axis of 1 (scalars and vectors have no axis that could be last)."""
    many = prod(value.shape) > SMALL_TENSOR
    return many and len(value.shape) > 1 and value.shape[-1] == 1 and value.element in FLOATS


def _padded(value: Type) -> int:
    """Bytes with the last axis padded."""
    if not value.bytes or not value.shape:
        return 0
    rows = prod(value.shape[:-1])
    return rows * PADDED_BYTES * ceil(value.bytes / rows / PADDED_BYTES)


def _thin(value: Type) -> tuple[str, str]:
    shape = "x".join(str(size) for size in value.shape)
    return (
        f"{shape}: the Neural Engine pads the last axis to {PADDED_BYTES} bytes, so that "
        f"{value.bytes / 1e6:.2f} MB take {_padded(value) / 1e6:.2f} MB",
        "put the long axis last (BxCx1xS, not BxCxSx1)",
    )


def _is_embedding(function: FunctionView, node: Node) -> bool:
    """Whether a gather picks rows of a stored table of an embedding layer."""
    tables = function.values(node, "x")
    if node.op.type != "gather" or not tables or not tables[0].constant:
        return False
    return len(tables[0].shape) == 2 and _EMBEDDING_MARK in node.inputs["x"][0]


def _own_layer(node: Node) -> str:
    operands = [name for key in ("weight", "x", "y") for name in node.inputs.get(key, [])]
    return next((layer_of(name) for name in operands if layer_of(name)), node.layer)


def _axis(function: FunctionView, node: Node) -> int:
    """The axis of a softmax (the last one where none is stored)."""
    value = function.constant(node, "axis")
    return -1 if value is None else int(value)
