"""Give a network other tensors for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def replaced_tensors(
    network: nn.Module, other: Callable[[torch.Tensor], torch.Tensor], *, buffers: bool = False
) -> Iterator[None]:
    """While open, each parameter of a network is `other(parameter)`, each buffer too if asked for;
    its own return at the end. `other` is called for each place in the network where one stands."""
    own: list[tuple[Any, str, torch.Tensor]] = []
    for module in network.modules():
        tables: tuple[Any, ...] = (module._parameters, module._buffers)
        for table in tables if buffers else tables[:1]:
            own += [(table, name, held) for name, held in table.items() if held is not None]
    try:
        for table, name, tensor in own:
            table[name] = other(tensor)
        yield
    finally:
        for table, name, tensor in own:
            table[name] = tensor
