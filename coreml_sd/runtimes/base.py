"""What every runtime gives: one executable network, named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorInfo:
    """One declared input or output: name, static shape, dtype (`float16`, `float32`, `int32`)."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class StoredWeight:
    """How one weight lies in a file: `kind` in the file's own word (`constexpr_lut_to_dense`,
    `int8`), `bits` per element, `stored_bytes` with its tables or scales."""

    name: str
    kind: str
    bits: int
    stored_bytes: int
    shape: tuple[int, ...]


class Network(Protocol):
    """One executable network."""

    @property
    def inputs(self) -> Mapping[str, TensorInfo]:
        """Declared inputs by name."""
        ...

    @property
    def outputs(self) -> Mapping[str, TensorInfo]:
        """Declared outputs by name."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs as float32 (or the declared integer type).

        Raises:
            UserError: an input is missing, unknown, or of another shape.
        """
        ...

    def close(self) -> None:
        """Give the memory back; the network is not used again."""
        ...


def check_inputs(
    where: str, declared: Mapping[str, TensorInfo], given: Mapping[str, Array]
) -> dict[str, Array]:
    """The given arrays in the declared order and dtype.

    Raises:
        UserError: a name is missing or unknown, or a shape differs.
    """
    if unknown := sorted(given.keys() - declared.keys()):
        raise UserError(f"{where}: no input {unknown[0]}; it takes {', '.join(declared)}")
    if missing := [name for name in declared if name not in given]:
        raise UserError(f"{where}: input {missing[0]} is missing")
    for name, info in declared.items():
        if tuple(given[name].shape) != info.shape:
            raise UserError(
                f"{where}: input {name} has shape {tuple(given[name].shape)}, needs {info.shape}"
            )
    return {name: np.asarray(given[name], dtype=info.dtype) for name, info in declared.items()}
