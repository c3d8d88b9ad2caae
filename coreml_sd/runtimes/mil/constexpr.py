"""The constexpr ops: weights stored compressed, decoded to dense arrays in numpy.

Attributes carry the parameters up to iOS 17, inputs from iOS 18; both arrive here by name.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS
from coreml_sd.runtimes.mil.unpacking import look_up, unpack, width_of

Array = NDArray[Any]
Decoder = Callable[..., tuple[Array, ...]]
DECODERS: dict[str, Decoder] = {}


def _decoder(name: str) -> Callable[[Decoder], Decoder]:
    def register(function: Decoder) -> Decoder:
        DECODERS[name] = function
        return function

    return register


@_decoder("constexpr_cast")
def cast(*, source_val: Array, output_dtype: str) -> tuple[Array, ...]:
    """source_val fp16, output_dtype "fp32"."""
    names = {"fp32": np.float32, "fp16": np.float16, "int32": np.int32}
    return (source_val.astype(names[output_dtype]),)


@_decoder("constexpr_affine_dequantize")
def affine_dequantize(
    *, quantized_data: Array, scale: Array, zero_point: Array, axis: Array
) -> tuple[Array, ...]:
    """(int8 or uint8 - zero point) * scale along `axis`; scale a scalar or a vector."""
    scale_values, zero_points = np.asarray(scale), np.asarray(zero_point)

    def along(values: Array) -> Array:
        shape = [1] * quantized_data.ndim
        if values.ndim:
            shape[int(axis)] = -1
        return values.astype(np.float32).reshape(shape)

    dense = (quantized_data.astype(np.float32) - along(zero_points)) * along(scale_values)
    return (dense.astype(scale_values.dtype),)


@_decoder("constexpr_blockwise_shift_scale")
def blockwise_shift_scale(
    *, data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, ...]:
    """(data - offset) * scale, each scale for a block of equal size on every axis."""
    shifted = data.astype(np.float32)
    if offset is not None:
        shifted = shifted - _repeat(offset.astype(np.float32), data.shape)
    return ((shifted * _repeat(scale.astype(np.float32), data.shape)).astype(scale.dtype),)


@_decoder("constexpr_lut_to_dense")
def lut_to_dense(
    *,
    indices: Array,
    lut: Array,
    shape: Array | None = None,
    vector_axis: Array | None = None,
) -> tuple[Array, ...]:
    """Palette indices to values.

    iOS16: `indices` packed bytes, `lut` (2**bits,), `shape` of the result. iOS18: `indices` in
    the weight's shape, `lut` (groups per axis ..., 2**bits, vector size).
    """
    if shape is not None:
        sides = _sides(shape)
        table = np.asarray(lut).reshape(-1)
        values = look_up(np.asarray(indices), width_of(table.size), prod(sides), table)
        return (values.reshape(sides),)
    axis = None if vector_axis is None else int(vector_axis)
    return (_grouped_lookup(indices, lut, axis),)


@_decoder("constexpr_sparse_to_dense")
def sparse_to_dense(
    *, nonzero_data: Array, mask: Array, shape: Array | None = None
) -> tuple[Array, ...]:
    """Values in the places where the mask is 1, zero elsewhere."""
    if shape is not None:
        sides = _sides(shape)
        mask = unpack(np.asarray(mask), 1, prod(sides)).reshape(sides)
    return (_scatter(nonzero_data, mask),)


@_decoder("constexpr_lut_to_sparse")
def lut_to_sparse(
    *,
    indices_mask: Array,
    indices_nonzero_data: Array,
    lut: Array,
    vector_axis: Array | None = None,
) -> tuple[Array, ...]:
    """Palette indices of the non-zero weights to (mask, values)."""
    dense_indices = _scatter(indices_nonzero_data, indices_mask)
    axis = None if vector_axis is None else int(vector_axis)
    dense = _grouped_lookup(dense_indices, lut, axis)
    mask = indices_mask
    if axis is not None and lut.shape[-1] > 1:
        mask = np.repeat(indices_mask, lut.shape[-1], axis=axis)
    return mask, dense[mask != 0]


@_decoder("constexpr_sparse_blockwise_shift_scale")
def sparse_blockwise_shift_scale(
    *, data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, ...]:
    """Blockwise scaled non-zero weights to (mask, values)."""
    (dense,) = blockwise_shift_scale(
        data=_scatter(nonzero_data, data_mask), scale=scale, offset=offset
    )
    return data_mask, dense[data_mask != 0]


def _sides(shape: Array) -> tuple[int, ...]:
    """A shape that stands in the file as numbers."""
    sides = tuple(int(side) for side in np.asarray(shape).reshape(-1))
    if any(side < 0 for side in sides):
        raise UserError(f"a weight of shape {sides}; convert again")
    return sides


def _scatter(values: Array, mask: Array) -> Array:
    wanted = int(np.count_nonzero(mask))
    if values.size != wanted:
        raise UserError(f"sparse weight: {values.size} values for {wanted} places; convert again")
    dense = np.zeros(mask.shape, dtype=values.dtype)
    dense[mask != 0] = values.reshape(-1)
    return dense


def _repeat(blocks: Array, shape: tuple[int, ...]) -> Array:
    """Each entry repeated over its block, to `shape`."""
    for axis, (have, want) in enumerate(zip(blocks.shape, shape, strict=True)):
        if want % have:
            raise UserError(f"blockwise weight: {have} blocks do not divide {want}; convert again")
        if have != want and have != 1:
            blocks = np.repeat(blocks, want // have, axis=axis)
    return blocks


def _grouped_lookup(indices: Array, lut: Array, vector_axis: int | None) -> Array:
    """`lut` (groups..., entries, vector) applied to `indices`, group by group."""
    rank = indices.ndim
    groups, entries, vector = lut.shape[:rank], lut.shape[rank], lut.shape[rank + 1]
    if indices.size and int(indices.max()) >= entries:
        raise UserError(f"palette: index {int(indices.max())} for {entries} entries; convert again")
    sizes = []
    for want, have in zip(indices.shape, groups, strict=True):
        if want % have:
            raise UserError(f"palette: {have} groups do not divide {want} rows; convert again")
        sizes.append(want // have)
    if indices.size * vector > LIMITS.elements:
        raise UserError(
            f"palette: makes {indices.size * vector} weights, {LIMITS.elements} at most"
        )
    dense = np.empty((*indices.shape, vector), dtype=lut.dtype)
    for group in product(*(range(count) for count in groups)):
        place = tuple(slice(g * s, (g + 1) * s) for g, s in zip(group, sizes, strict=True))
        dense[place] = lut[group][indices[place]]
    if vector == 1:
        return dense[..., 0]
    if vector_axis is None:
        raise UserError("palette: vectors without a vector axis; convert again")
    moved = np.moveaxis(dense, -1, vector_axis + 1)
    shape = list(indices.shape)
    shape[vector_axis] *= vector
    return moved.reshape(shape)
