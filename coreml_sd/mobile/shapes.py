"""Shapes as plain integers, also while torch.jit traces."""

from __future__ import annotations

import warnings

import torch


def sizes(x: torch.Tensor) -> tuple[int, ...]:
    """The shape of `x` as Python integers.

    Under trace the entries of `x.shape` are tensors, and each use of one leaves a shape and a
    gather op in the program. Every shape of the mobile form is static, so the warning about
    fixing it says nothing new.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        return tuple(int(size) for size in x.shape)
