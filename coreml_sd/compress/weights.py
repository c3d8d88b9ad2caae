"""A network with other weights for a while: what its file stores."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn


def in_fp16(name: str, parameter: torch.Tensor) -> torch.Tensor:
    """Any parameter rounded to fp16."""
    return parameter.half()


@contextlib.contextmanager
def replaced_weights(
    module: nn.Module, values: Callable[[str, torch.Tensor], torch.Tensor] = in_fp16
) -> Iterator[None]:
    """Parameters set to `values(name, parameter)`; the originals return at the end.

    Works in place, and so on every module that shares their storage.
    """
    parameters = dict(module.named_parameters())
    # All are kept before any is changed: two parameters may view the same storage.
    originals = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    with torch.no_grad():
        try:
            for name, parameter in parameters.items():
                parameter.copy_(values(name, originals[name]).reshape(parameter.shape))
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.copy_(originals[name])
