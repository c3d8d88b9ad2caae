"""Run a torch network with another GELU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from coreml_sd.upstream import table


@contextlib.contextmanager
def other_gelu(network: nn.Module, change: Callable[[Any], Any]) -> Iterator[None]:
    """While open, every GELU in torch is `change(F.gelu)`, and so is every activation of the
    network that is `F.gelu` itself."""
    exact: Callable[..., torch.Tensor] = F.gelu
    other = change(exact)
    holders = [module for module in network.modules() if getattr(module, "act", None) is exact]
    with contextlib.ExitStack() as stack:
        stack.enter_context(table.GELU.replaced(F, "gelu", other))
        for holder in holders:
            stack.enter_context(table.GELU.replaced(holder, "act", other))
        yield
