"""The coreml runtime: `MLModel.predict` on macOS."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coreml_sd.errors import UserError
from coreml_sd.runtimes.base import Array, TensorInfo, check_inputs
from coreml_sd.runtimes.mil.package import MilPackage
from coreml_sd.runtimes.mil.values import element_and_shape
from coreml_sd.upstream.noise import quieten

COMPUTE_UNITS = ("all", "cpu-only", "cpu-and-gpu", "cpu-and-ne")


def available() -> bool:
    """Whether Core ML can run models here."""
    return sys.platform == "darwin"


class CoreMLNetwork:
    """One .mlpackage run by Core ML (see `coreml_sd.runtimes.base.Network`).

    Raises:
        UserError: Core ML does not exist here, or refuses the file.
    """

    LABEL = "run by Core ML"

    def __init__(
        self, path: Path | str, *, compute_units: str = "all", function: str = "main"
    ) -> None:
        if compute_units not in COMPUTE_UNITS:
            raise UserError(
                f"compute units {compute_units}: choose from {', '.join(COMPUTE_UNITS)}"
            )
        if not available():
            raise UserError("the coreml runtime needs macOS; use --runtime mil here")
        self.path = Path(path)
        self._inputs, self._outputs = _interface(self.path, function)
        self._model = _load(self.path, compute_units, function)

    @property
    def inputs(self) -> Mapping[str, TensorInfo]:
        """Declared inputs."""
        return self._inputs

    @property
    def outputs(self) -> Mapping[str, TensorInfo]:
        """Declared outputs."""
        return self._outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One prediction; floats come as float32."""
        arrays = check_inputs(str(self.path), self.inputs, inputs)
        found = self._model.predict(arrays)
        return {
            name: np.asarray(found[name], np.float32 if info.dtype != "int32" else np.int32)
            for name, info in self.outputs.items()
        }

    def close(self) -> None:
        """Let Core ML free the model."""
        self._model = None


def _load(path: Path, compute_units: str, function: str) -> Any:
    quieten()
    import coremltools as ct

    units = getattr(ct.ComputeUnit, compute_units.upper().replace("-", "_"))
    chosen = {} if function == "main" else {"function_name": function}
    try:
        return ct.models.MLModel(str(path), compute_units=units, **chosen)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: Core ML refuses it: {reason}; convert again") from None


def _interface(path: Path, function: str) -> tuple[dict[str, TensorInfo], dict[str, TensorInfo]]:
    """Inputs and outputs as the file declares them."""
    program = MilPackage(path).programs[0]
    proto, block = program.function(function), program.block(function)
    inputs = {
        entry.name: _info(entry.name, element_and_shape(entry.type, str(path)))
        for entry in proto.inputs
    }
    made = {
        name: (element, shape)
        for op in program.operations(function)
        for name, element, shape in op.outputs
    }
    return inputs, {name: _info(name, made[name]) for name in block.outputs}


def _info(name: str, element_shape: tuple[str, tuple[int, ...]]) -> TensorInfo:
    element, shape = element_shape
    return TensorInfo(name, shape, element)
