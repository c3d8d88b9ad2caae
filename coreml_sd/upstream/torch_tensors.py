"""Which tensors share memory: torch tells it of `meta` tensors by an internal alone."""

from __future__ import annotations

import torch


def storage_of(tensor: torch.Tensor) -> int:
    """Equal for tensors of one storage, on any device, while one of them lives.

    On `meta` every data pointer is 0.
    """
    return int(tensor.untyped_storage()._cdata)


def storage_key(tensor: torch.Tensor) -> tuple[int, int]:
    """Equal for tensors that begin at the same place of one storage, while one of them lives."""
    return storage_of(tensor), int(tensor.storage_offset())
