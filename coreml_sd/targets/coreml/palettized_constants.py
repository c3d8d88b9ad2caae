"""A graph pass that stores decided weights as palettes while the program is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_sd.compress.bits import pack_bits
from coreml_sd.compress.palette import Palette
from coreml_sd.compress.plan import Palettization, weight_digest
from coreml_sd.errors import CoremlSDError

_PASS = "coreml_sd::palettized_constants"


@dataclass(frozen=True)
class EmissionRecord:
    """A palette in the program: the constant it replaced, and how many ops read it."""

    constant: str
    digest: str
    bits: int
    readers: int


def pass_pipeline(
    palettization: Palettization | None, min_os: str
) -> tuple[Any, Callable[[], list[EmissionRecord]]]:
    """coremltools' default passes, ours appended after the cast to fp16.

    Returns:
        The pipeline, and a function that gives the emissions once the conversion has run.

    Raises:
        CoremlSDError: (by that function) a decided palette found no constant.
    """
    import coremltools as ct

    pipeline = ct.PassPipeline.DEFAULT
    if palettization is None:
        return pipeline, list
    _register()
    emitted: list[EmissionRecord] = []
    pipeline.append_pass(_PASS)
    pipeline.set_options(
        _PASS,
        {
            "palettes": palettization.by_digest,
            "emitted": emitted,
            "packed": min_os != "iOS18",
        },
    )

    def finished() -> list[EmissionRecord]:
        used = {record.digest for record in emitted}
        for parameter, digest in palettization.by_parameter.items():
            if digest not in used:
                raise CoremlSDError(f"palette of {parameter} found no constant in the program")
        return emitted

    return pipeline, finished


def _register() -> None:
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY, register_pass

    if _PASS in PASS_REGISTRY:
        return

    @register_pass(namespace="coreml_sd")
    class palettized_constants(AbstractGraphPass):  # type: ignore[misc]  # noqa: N801 - the pass is named after its class
        """Constants whose fp16 values have a palette become constexpr_lut_to_dense."""

        palettes: Mapping[str, Palette]
        emitted: list[EmissionRecord]
        packed: bool

        def __init__(self) -> None:
            self.palettes, self.emitted, self.packed = {}, [], True

        def apply(self, prog: Any) -> None:
            for function in prog.functions.values():
                with function:  # new ops go into the block that is entered
                    _replace_constants(function, self.palettes, self.emitted, packed=self.packed)


def _replace_constants(
    block: Any, palettes: Mapping[str, Palette], emitted: list[EmissionRecord], *, packed: bool
) -> None:
    for op in list(block.operations):
        if op.op_type != "const" or not isinstance(op.val.val, np.ndarray):
            continue
        value = op.val.val
        if value.dtype != np.float16 or value.ndim < 2:
            continue
        digest = weight_digest(value)
        if digest not in palettes:
            continue
        palette = palettes[digest]
        readers = len(op.outputs[0].child_ops)
        replacement = _constexpr(op, value.shape, palette, packed=packed)
        block.replace_uses_of_var_after_op(
            anchor_op=op, old_var=op.outputs[0], new_var=replacement, no_check_var_types=True
        )
        emitted.append(EmissionRecord(op.name, digest, palette.bits, readers))
        block.remove_ops([op])


def _constexpr(op: Any, shape: tuple[int, ...], palette: Palette, *, packed: bool) -> Any:
    """Up to iOS 17: packed bytes, one table. From iOS 18: sub-byte indices, tables per group."""
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - coremltools' own habit
    from coremltools.converters.mil.mil import types

    name = f"{op.name}_palettized"
    if packed:
        if palette.groups != 1:
            raise CoremlSDError(f"{op.name}: palettes per group of channels need iOS18")
        return mb.constexpr_lut_to_dense(
            indices=pack_bits(palette.indices, palette.bits),
            lut=palette.lut[0],
            shape=np.array(shape, dtype=np.uint32),
            before_op=op,
            name=name,
        )
    index_type = types.nptype_from_builtin(types.string_to_builtin(f"uint{palette.bits}"))
    table_shape = (palette.groups, *(1,) * (len(shape) - 1), 1 << palette.bits, 1)
    return mb.constexpr_lut_to_dense(
        indices=palette.indices.reshape(shape).astype(index_type),
        lut=palette.lut.reshape(table_shape),
        before_op=op,
        name=name,
    )
