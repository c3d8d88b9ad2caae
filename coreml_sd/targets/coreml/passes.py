"""The graph passes that a mobile form needs, and a check of what they leave.

Of coremltools' default pipeline of about 110 passes only these change a program of ours; a test
runs both on every kind of network and compares the programs. Between passes coremltools validates
the whole program each time; here it is checked once, after the last one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import CoremlSDError
from coreml_sd.targets.coreml.placeholders import StandIns, is_weightless
from coreml_sd.targets.coreml.precision import Precision, fp16_except_sinusoid

_BEFORE_CAST = (
    "common::update_output_dtypes",
    "common::cast_optimization",
    "common::noop_elimination",
    "common::const_elimination",
    "common::const_deduplication",
    "common::fuse_gelu_tanh_approximation",
    "common::fuse_gelu_exact",
    "common::rank0_expand_dims_swap",
    "common::fuse_squeeze_expand_dims",
    "common::fuse_pad_conv",
    "common::reduce_transposes",
    "common::fuse_conv_bias",
    "common::fuse_layernorm_or_instancenorm",
    "common::fuse_elementwise_to_batchnorm",
    "common::merge_consecutive_reshapes",
    "common::merge_consecutive_transposes",
    "common::fuse_transpose_matmul",
    "common::reduce_transposes",
    "common::remove_redundant_ops",
    "common::dedup_op_and_var_names",
)
_CAST = ("common::add_int16_cast", "common::update_output_dtypes")
_AFTER_CAST = (
    "common::guard_negative_gather_indices",
    "common::const_elimination",
    "common::dead_code_elimination",
    "common::cast_optimization",
    "common::dead_code_elimination",
)
_SECOND_CAST = ("common::add_int16_cast",)
_LAST = (
    "common::const_elimination",
    "common::dead_code_elimination",
    "common::cast_optimization",
    "common::dead_code_elimination",
    "common::const_elimination",
    "common::const_deduplication",
    "common::fuse_transpose_matmul",
    "common::dead_code_elimination",
    "common::noop_elimination",
    "common::dedup_op_and_var_names",
    "common::reduce_transposes",
    "common::remove_redundant_ops",
    "common::topological_reorder",
    "common::dead_code_elimination",
    "mil_backend::adjust_io_to_supported_types",
    "common::const_elimination",
    "common::const_deduplication",
    "common::cast_optimization",
    "common::dead_code_elimination",
    "mil_backend::sanitize_name_strings",
    "common::dedup_op_and_var_names",
)
_LARGEST_FP16 = 65504
_INFINITE = 1e38  # what is meant as infinity may become it
_CONST_DTYPES_OF_LAYERS = ("weight", "bias", "gamma", "beta")


def run_passes(program: Any, stand_ins: StandIns, precision: Precision) -> None:
    """Bring a captured program into its final form, in place.

    Raises:
        CoremlSDError: a pass computed with a stand-in, or left a program that is not sound.
    """
    readers = stand_ins.readers(program)
    stand_ins.keep_weightless(program)
    _run(program, _BEFORE_CAST)
    if precision == "float16":
        _cast_to_fp16(program)
        _run(program, _CAST)
    _run(program, _AFTER_CAST)
    if precision == "float16":
        _run(program, _SECOND_CAST)
    _run(program, _LAST)
    _check_readers(readers, stand_ins.readers(program))
    check_program(program)


def _run(program: Any, names: tuple[str, ...]) -> None:
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    for name in names:
        graph_pass = PASS_REGISTRY[name]
        graph_pass.set_options(None)
        graph_pass(program)


def _cast_to_fp16(program: Any) -> None:
    """coremltools' cast, except that it looks for overflow in small constants alone: weights are
    checked when they are read."""
    import coremltools as ct

    class Cast(ct.transform.FP16ComputePrecision):  # type: ignore[misc]
        @staticmethod
        def fp16_overflow(op: Any) -> bool:
            return any(
                var.op is not None
                and var.op.op_type == "const"
                and var.is_tensor_or_scalar_of(dtype="fp32")
                and 0 not in np.shape(var.val)
                and not is_weightless(var.val)
                and _overflows(np.asarray(var.val))
                for _, var in _inputs(op)
            )

    Cast(op_selector=fp16_except_sinusoid().op_selector)(program)


def _overflows(value: NDArray[Any]) -> bool:
    magnitude = np.abs(value)
    return bool(np.max(magnitude[magnitude < _INFINITE], initial=0.0) > _LARGEST_FP16)


def _check_readers(before: dict[str, int], after: dict[str, int]) -> None:
    for name, count in before.items():
        if count == 0:
            raise CoremlSDError(f"{name} is read by nothing: the network does not use it")
        if after[name] != count:
            raise CoremlSDError(f"{name}: the converter computed with it and not with its values")


def check_program(program: Any) -> None:
    """Names are unique, everything read was written before, and types are what the ops give.

    Raises:
        CoremlSDError: names the op.
    """
    for function in program.functions.values():
        known = {var.name: var for var in function.inputs.values()}
        for op in function.operations:
            for name, var in _inputs(op):
                if known.get(var.name) is not var:
                    raise CoremlSDError(f"op {op.name}: input {name} ({var.name}) is not written")
            _check_layer_types(op)
            _check_inference(op)
            for var in op.outputs:
                if var.name in known:
                    raise CoremlSDError(f"op {op.name}: {var.name} is written a second time")
                known[var.name] = var
        for var in function.outputs:
            if known.get(var.name) is not var:
                raise CoremlSDError(f"output {var.name} is not written")


def _inputs(op: Any) -> list[tuple[str, Any]]:
    pairs = []
    for name, given in op.inputs.items():
        if not name.startswith("_") and op.op_type != "const":
            pairs += [
                (name, var) for var in (given if isinstance(given, list | tuple) else [given])
            ]
    return pairs


def _check_layer_types(op: Any) -> None:
    """The cast to fp16 must have reached a layer's input and its weights alike."""
    if op.op_type not in ("conv", "linear", "batch_norm", "layer_norm"):
        return
    for name in _CONST_DTYPES_OF_LAYERS:
        var = op.inputs.get(name)
        if var is not None and var.dtype != op.inputs["x"].dtype:
            raise CoremlSDError(f"op {op.name}: {name} and its input differ in type")


def _check_inference(op: Any) -> None:
    """The declared results against those that the op's own definition gives."""
    if op.op_type == "const":
        return
    from coremltools.converters.mil.mil import Function

    with Function({}):  # where an op puts the defaults of inputs that it has not
        inferred = op.type_inference()
    types = inferred if isinstance(inferred, tuple) else (inferred,)
    for var, found in zip(op.outputs, types, strict=True):
        if _signature(var.sym_type) != _signature(found):
            raise CoremlSDError(
                f"op {op.name} ({op.op_type}): declared {_signature(var.sym_type)}, "
                f"gives {_signature(found)}"
            )


def _signature(kind: Any) -> tuple[Any, ...]:
    from coremltools.converters.mil.mil import types

    if types.is_tensor(kind):
        return types.builtin_to_string(kind.get_primitive()), tuple(kind.get_shape())
    return types.builtin_to_string(kind), ()
