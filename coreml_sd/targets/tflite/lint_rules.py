"""Rules for .tflite files: what the GPU delegate refuses, and what does not fit a phone."""

from __future__ import annotations

from collections.abc import Iterator

from coreml_sd.lint.rule import Hit
from coreml_sd.runtimes.litert.file import Op, Tensor
from coreml_sd.runtimes.litert.mixed_rank import mixed_rank_ops
from coreml_sd.targets.tflite.gpu_delegate import SUPPORTED, refused_form
from coreml_sd.targets.tflite.lint_view import (
    FLOATS,
    INTEGER_WEIGHTS,
    TFLITE,
    TFLiteView,
    dimensions,
    hit,
)

# The delegate describes a tensor by batch, height, width and channels.
HIGHEST_RANK = 4

# Offsets inside a flatbuffer are 32-bit and signed: older readers map no more, and Android's
# installers and download managers stop at the same size.
LARGEST_FILE = 2**31

_FLOAT_BYTES = 4  # as the profiles count: fp32, also where the delegate computes in fp16
_OWN_RULES = ("BROADCAST_TO", "STABLEHLO_COMPOSITE")
_WEIGHT = 1  # the input that holds the weight of CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED


@TFLITE.rule("op-not-on-gpu", "error", "An op that the GPU delegate does not know.", gpu_only=True)
def op_not_on_gpu(view: TFLiteView) -> Iterator[Hit]:
    for _, op in view.ops():
        if op.kind not in SUPPORTED and op.kind not in _OWN_RULES:
            yield hit(
                op,
                "the GPU delegate does not know this op: compiling for the GPU alone fails, and "
                "beside the CPU the data is copied to and fro at every step",
                "write the module with ops of the delegate's list "
                "(coreml_sd/targets/tflite/gpu_delegate.py) or take what it computes out of the "
                "network",
            )


@TFLITE.rule(
    "op-form", "error", "An op of the delegate's list in a form that it refuses.", gpu_only=True
)
def op_form(view: TFLiteView) -> Iterator[Hit]:
    for _, op in view.ops():
        reason = refused_form(view.file, op)
        if reason:
            yield hit(
                op,
                f"the GPU delegate refuses this {op.kind}: it {reason}",
                "write the op in the form that the delegate takes, or fold it into a constant",
            )


@TFLITE.rule(
    "broadcast-to",
    "error",
    "BROADCAST_TO, as a straight export of group norm makes it (T1.3).",
    gpu_only=True,
)
def broadcast_to(view: TFLiteView) -> Iterator[Hit]:
    for _, op in view.ops("BROADCAST_TO"):
        yield hit(
            op,
            "the GPU delegate has no BROADCAST_TO and refuses the whole file",
            "let MUL and ADD broadcast by themselves: group norm as 4-D reshape, means and affine "
            "parameters of shape 1xCx1x1 (coreml_sd/mobile/group_norm.py); no expand() elsewhere",
        )


@TFLITE.rule(
    "composite",
    "error",
    "STABLEHLO_COMPOSITE, a fused op with a decomposition beside it.",
    gpu_only=True,
)
def composite(view: TFLiteView) -> Iterator[Hit]:
    for _, op in view.ops("STABLEHLO_COMPOSITE"):
        yield hit(
            op,
            "delegates of LiteRT 2.1 to 2.3 crash when they prepare a composite, and older ones "
            "do not know it",
            "export without composites (litert_torch.config.enable_group_norm_composite off, no "
            "StableHLOCompositeBuilder)",
        )


@TFLITE.rule("rank", "error", "A tensor of more than four axes.", gpu_only=True)
def rank(view: TFLiteView) -> Iterator[Hit]:
    for _, op in view.ops():
        high = [t for t in _tensors(op) if len(t.shape) > HIGHEST_RANK]
        if high:
            yield hit(
                op,
                f"{dimensions(high[0].shape)} has {len(high[0].shape)} axes; tensors on the GPU "
                f"have at most {HIGHEST_RANK}",
                "merge axes before the op (reshape to BxCxHxW or Bx1xSxC)",
            )


@TFLITE.rule(
    "mixed-rank",
    "error",
    "An elementwise op whose constant has more axes than its data.",
    gpu_only=True,
)
def mixed_rank(view: TFLiteView) -> Iterator[Hit]:
    for op in mixed_rank_ops(view.file):
        shapes = " and ".join(dimensions(t.shape) for t in op.inputs if t is not None)
        yield hit(
            op,
            f"{shapes}: the delegate lines axes up by each tensor's own rank and computes "
            "something else, without an error",
            "give both the same number of axes before the export",
        )


@TFLITE.rule(
    "quantized-linear", "error", "FULLY_CONNECTED with int8 or int4 weights (T1.1).", gpu_only=True
)
def quantized_linear(view: TFLiteView) -> Iterator[Hit]:
    for graph, op in view.ops("FULLY_CONNECTED"):
        weight = _weight(op)
        source = view.producer(graph, weight)
        stored = source.inputs[0] if source is not None and source.kind == "DEQUANTIZE" else weight
        if stored is not None and stored.dtype in INTEGER_WEIGHTS:
            yield hit(
                op,
                f"the GPU delegate refuses or miscomputes linear layers of {stored.dtype} weights "
                "in UNet and VAE (weight shape mismatch, batch axis)",
                "make the linear layer a 1x1 convolution (coreml_sd/mobile/linear_to_conv.py) or "
                "keep its weight in fp16",
            )


@TFLITE.rule(
    "hybrid-op",
    "warning",
    "An int8 weight read by a float op without DEQUANTIZE: dynamic-range quantization (T1.5).",
    gpu_only=True,
)
def hybrid_op(view: TFLiteView) -> Iterator[Hit]:
    for _, op in view.ops("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        weight, given = _weight(op), op.inputs[0]
        if weight is None or given is None or weight.dtype not in INTEGER_WEIGHTS:
            continue
        if given.dtype in FLOATS:
            yield hit(
                op,
                "the same file computes differently per backend: the CPU rounds activations to "
                "int8 as it goes, the GPU computes in fp16, so a check on the CPU proves nothing "
                "for the GPU",
                "quantize weights alone with an explicit DEQUANTIZE (quantization int8) for the "
                "GPU; keep dynamic-int8 for the profile cpu",
            )


@TFLITE.rule(
    "winograd-image",
    "error",
    "A 3x3 convolution whose Winograd images are over the device's limit (T1.2, T2.5).",
    gpu_only=True,
)
def winograd_image(view: TFLiteView) -> Iterator[Hit]:
    for _, op in view.ops("CONV_2D"):
        weight, given = _weight(op), op.inputs[0]
        if weight is None or given is None or not _plain_3x3(view, op, weight, given):
            continue
        channels_out, channels_in = weight.shape[0], weight.shape[3]
        height, width = op.outputs[0].shape[1:3]
        if not view.device.convolution_fits(channels_in, channels_out, height, width):
            yield hit(
                op,
                f"{channels_in} to {channels_out} channels at {height}x{width}: the delegate's "
                f"Winograd images are over {view.device.image_limit} texels high and cannot be "
                f"allocated on {view.device.name}",
                "split the input channels over several convolutions and add the results (convert "
                "with this --android-profile)",
            )


@TFLITE.rule(
    "attention-tensor",
    "warning",
    "An attention tensor over the profile's limit (32 MiB at fp32; `cpu`: 128).",
)
def attention_tensor(view: TFLiteView) -> Iterator[Hit]:
    limit = view.device.tensor_limit
    for _, op in view.ops("BATCH_MATMUL", "SOFTMAX"):
        # Scores computed in pieces and joined again are seen only where a product reads them.
        read = [tensor for tensor in op.inputs if tensor is not None and not tensor.is_constant]
        largest = max((*op.outputs, *read), key=lambda tensor: tensor.elements)
        size = _FLOAT_BYTES * largest.elements
        if size > limit:
            yield hit(
                op,
                f"{dimensions(largest.shape)} takes {size / 2**20:,.0f} MiB at fp32, over the "
                f"{limit / 2**20:,.0f} MiB of {view.device.name}; several such are alive at once",
                "compute attention for a part of the queries at a time (chunked along the queries)",
            )


@TFLITE.rule(
    "large-table",
    "warning",
    "A table of embeddings of more than 128 MiB at fp32.",
    gpu_only=True,
)
def large_table(view: TFLiteView) -> Iterator[Hit]:
    limit = view.device.table_limit
    for _, op in view.ops("EMBEDDING_LOOKUP", "GATHER"):
        for table in (t for t in op.inputs if t is not None and t.is_constant):
            size = _FLOAT_BYTES * table.elements
            if size > limit:
                yield hit(
                    op,
                    f"{dimensions(table.shape)} takes {size / 2**20:,.0f} MiB on the GPU; where a "
                    f"driver has only the {limit / 2**20:,.0f} MiB that Vulkan guarantees for a "
                    "buffer, the lookup gives wrong values without an error",
                    "cut the table along its channels into several lookups and join the results "
                    "(convert with this --android-profile)",
                )


@TFLITE.rule("int64", "error", "A tensor of 64-bit integers.")
def int64(view: TFLiteView) -> Iterator[Hit]:
    for _, op in view.ops():
        wide = [tensor for tensor in _tensors(op) if tensor.dtype in ("int64", "uint64")]
        if wide:
            yield hit(
                op,
                f"{wide[0].name} is {wide[0].dtype}: GPUs have no 64-bit integers, and XNNPACK "
                "leaves such ops to slow reference kernels",
                "make indices and ids int32 before the export",
            )


@TFLITE.rule("dynamic-shape", "error", "A tensor whose size is known only when it runs.")
def dynamic_shape(view: TFLiteView) -> Iterator[Hit]:
    for _, op in view.ops():
        open_ended = [tensor for tensor in _tensors(op) if tensor.is_dynamic]
        if open_ended:
            yield hit(
                op,
                f"{open_ended[0].name} has no fixed size: delegates refuse such graphs, and "
                "memory cannot be planned",
                "export at fixed sizes, one file per size",
            )


@TFLITE.rule("large-file", "warning", "A file over 2 GiB.")
def large_file(view: TFLiteView) -> Iterator[Hit]:
    size = view.file.path.stat().st_size
    if size > LARGEST_FILE:
        yield Hit(
            "file",
            "",
            f"{size / 2**30:.2f} GiB: over 2 GiB, which readers with 32-bit offsets and many "
            "downloads on Android refuse",
            "store weights as fp16 or int8, or cut the network into several files",
        )


def _tensors(op: Op) -> list[Tensor]:
    return [tensor for tensor in (*op.outputs, *op.inputs) if tensor is not None]


def _weight(op: Op) -> Tensor | None:
    return op.inputs[_WEIGHT] if len(op.inputs) > _WEIGHT else None


def _plain_3x3(view: TFLiteView, op: Op, weight: Tensor, given: Tensor) -> bool:
    """Stride 1, dilation 1, one group: what Winograd's algorithm is run for."""
    shapes = (weight.shape, given.shape, op.outputs[0].shape)
    if any(len(shape) != 4 for shape in shapes) or weight.shape[1:3] != (3, 3):
        return False
    steps = ("StrideH", "StrideW", "DilationHFactor", "DilationWFactor")
    plain = all(view.file.option(op, step, 1) == 1 for step in steps)
    return plain and weight.shape[3] == given.shape[3]
