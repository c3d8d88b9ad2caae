"""Work-around for a fault of litert-torch (0.9 and 0.10 have it).

The exporter tells constants apart by their address; of a tensor that is not contiguous it takes
that of a copy, which it frees. The next copy of that size may get the same address, and then the
file holds the first values twice, without an error. Views of a weight along its channels are such.

Source: litert-torch issues 1061 and 1238. tests/upstream/test_litert_torch_faults.py says when a
newer version no longer needs it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def contiguous_weights(network: nn.Module) -> Iterator[None]:
    """While open, every parameter and buffer of the network is contiguous; views return after."""
    views = [
        (tensor, tensor.data)
        for tensor in (*network.parameters(), *network.buffers())
        if not tensor.is_contiguous()
    ]
    try:
        for tensor, view in views:
            tensor.data = view.contiguous()
        yield
    finally:
        for tensor, view in views:
            tensor.data = view
