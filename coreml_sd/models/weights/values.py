"""Values of a network's parameters by name, each fetched when it is needed and not kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from coreml_sd.models.weights.tensor_file import TensorFile

_LARGEST = 65504.0
_AT_ONCE = 1 << 20  # weights looked at together: what that needs beside them stays small


class Weights(Protocol):
    """Where the values come from: files, or a network in memory. Threads may ask at once."""

    def value(self, name: str) -> NDArray[Any]:
        """A parameter's values as they are held, floating point of any width."""
        ...

    def origin(self, name: str) -> str:
        """How an error names the parameter."""
        ...


Place = tuple[Path, str]  # a safetensors file and the tensor's name in it


class FileWeights:
    """Parameters that lie in safetensors files under names that are their own."""

    def __init__(self, places: Mapping[str, tuple[TensorFile, str]]) -> None:
        self._places = places

    def place(self, name: str) -> Place:
        """Where a parameter lies."""
        file, key = self._places[name]
        return file.path, key

    def value(self, name: str) -> NDArray[Any]:
        """Read from the file."""
        file, key = self._places[name]
        return file.read(key)

    def origin(self, name: str) -> str:
        """The file and its name for the tensor."""
        file, key = self._places[name]
        return f"{file.path}: {key}"


class ModuleWeights:
    """Parameters of a torch module in memory."""

    def __init__(self, module: Any) -> None:
        self._parameters = dict(module.named_parameters(remove_duplicate=False))

    def value(self, name: str) -> NDArray[Any]:
        """A view of the parameter."""
        array: NDArray[Any] = self._parameters[name].detach().numpy()
        return array

    def origin(self, name: str) -> str:
        """The parameter's name."""
        return name


def is_layer(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is the weight of a convolution, a linear layer or a table of tokens; a
    table of positions is read whole and stays as it is (see `mobile.weights.layer_weights`)."""
    return len(shape) in (2, 4) and "position_embedding" not in name


def set_tensor(module: Any, name: str, value: Any) -> None:
    """Give a torch module's parameter or buffer, named by its path, another tensor."""
    *path, leaf = name.split(".")
    for step in path:
        module = getattr(module, step)
    setattr(module, leaf, value)


def fp16_value(weights: Weights, name: str) -> NDArray[np.float16]:
    """A parameter in fp16, contiguous.

    Raises:
        UserError: it holds NaN or infinity, or a number that fp16 does not.
    """
    value = weights.value(name)
    narrow = np.ascontiguousarray(value, dtype=np.float16)
    _require_finite(weights, name, value, narrow)
    return narrow


def fp32_value(weights: Weights, name: str) -> NDArray[np.float32]:
    """A parameter in fp32, contiguous.

    Raises:
        UserError: it holds NaN or infinity, or a number that fp16, in which it will be stored,
            does not.
    """
    value = weights.value(name)
    _require_finite(weights, name, value, value.astype(np.float16))
    return np.ascontiguousarray(value, dtype=np.float32)


def is_finite(value: NDArray[Any]) -> bool:
    """Whether an array holds neither NaN nor infinity; for fp16 ten times as fast as numpy's."""
    if value.dtype != np.float16:
        return bool(np.isfinite(value).all())
    patterns = value.reshape(-1).view(np.uint16)
    starts = range(0, patterns.size, _AT_ONCE)
    return not any(((patterns[i : i + _AT_ONCE] & 0x7C00) == 0x7C00).any() for i in starts)


def not_finite(origin: str) -> UserError:
    """What is said of a weight that holds NaN or infinity."""
    return UserError(f"{origin} holds NaN or inf; get an intact checkpoint")


def _require_finite(
    weights: Weights, name: str, value: NDArray[Any], narrow: NDArray[np.float16]
) -> None:
    if is_finite(narrow):
        return
    if np.isfinite(value).all():
        raise UserError(
            f"{weights.origin(name)}: largest weight {float(np.abs(value).max()):.6g} does not fit "
            f"in fp16 ({_LARGEST:.0f})"
        )
    raise not_finite(weights.origin(name))
