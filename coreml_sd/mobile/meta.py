"""Run a network on `meta` tensors: shapes and dtypes flow, numbers do not, no memory is used."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch
from torch import nn

from coreml_sd.mobile.replaced_tensors import replaced_tensors
from coreml_sd.upstream.hidden_imports import without_compiler
from coreml_sd.upstream.torch_meta import traceable_convolution

# What is swapped and registered below belongs to the whole process.
_alone = threading.RLock()


@contextlib.contextmanager
def on_meta(network: nn.Module) -> Iterator[None]:
    """The network with all parameters and buffers on `meta`; its own return at the end.

    `torch.jit.trace` works inside.
    """
    with (
        _alone,
        traceable_convolution(),
        without_compiler(),
        replaced_tensors(network, _as_meta, buffers=True),
    ):
        yield


def _as_meta(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_meta:
        return tensor
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
