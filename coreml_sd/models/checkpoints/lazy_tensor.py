"""Tensors of a file that are read when they are written elsewhere: one is in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

_NAMES = {
    torch.float16: "F16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
_ALIGNED = 8  # bytes of the header, as the format wants it


class LazyTensor:
    """A tensor of a file, and what is done to it before it is used.

    It has the few methods that maps of names call on tensors.
    """

    def __init__(self, read: Callable[[], torch.Tensor], like: torch.Tensor) -> None:
        """`like` has its shape and type, on `meta`."""
        self._read, self._like = read, like

    @property
    def shape(self) -> torch.Size:
        return self._like.shape

    @property
    def ndim(self) -> int:
        return self._like.ndim

    @property
    def dtype(self) -> torch.dtype:
        return self._like.dtype

    @property
    def T(self) -> LazyTensor:  # noqa: N802 - as torch calls it
        return self._then(lambda tensor: tensor.T)

    def __getitem__(self, part: Any) -> LazyTensor:
        return self._then(lambda tensor: tensor[part])

    def contiguous(self) -> LazyTensor:
        return self

    clone = detach = contiguous

    def value(self) -> torch.Tensor:
        """Read now."""
        return self._read().contiguous()

    def _then(self, change: Callable[[torch.Tensor], torch.Tensor]) -> LazyTensor:
        return LazyTensor(lambda: change(self._read()), change(self._like))


def lazy_tensors(file: Path) -> dict[str, LazyTensor]:
    """All of a safetensors file, by name; none is read yet."""
    from safetensors import safe_open

    def read(name: str) -> Callable[[], torch.Tensor]:
        def tensor() -> torch.Tensor:
            # Opened for each: pages of an open file's mapping stay with the process.
            with safe_open(file, framework="pt") as opened:
                held: torch.Tensor = opened.get_tensor(name)
            return held

        return tensor

    with safe_open(file, framework="pt") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
        like = {
            name: torch.empty(part.get_shape(), dtype=_dtype(part.get_dtype()), device="meta")
            for name, part in slices.items()
        }
    return {name: LazyTensor(read(name), value) for name, value in like.items()}


def write_tensors(path: Path, tensors: Mapping[str, LazyTensor]) -> None:
    """Write a safetensors file, a tensor after the other; the library's writer wants them all."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.shape.numel() * tensor.dtype.itemsize
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in tensors.values():
            value = tensor.value()
            file.write(value.reshape(-1).view(torch.uint8).numpy().data)


def _dtype(name: str) -> torch.dtype:
    return next(dtype for dtype, named in _NAMES.items() if named == name)
