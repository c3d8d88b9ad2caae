"""Export a network whose weights lie in files: what each is, is read when it is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.mobile.meta import storage_key
from coreml_sd.models.weights import Weights

_ITEM = 4  # bytes of a value
Read = Callable[[], torch.Tensor]


class UnreadWeights:
    """Memory of a weight's size that nobody writes to, by its address, and how to read it."""

    def __init__(self) -> None:
        self._reads: dict[int, Read] = {}

    def add(self, shape: tuple[int, ...], read: Read) -> torch.Tensor:
        """A tensor that stands for the weight; the system gives pages only to what is written."""
        tensor = torch.from_numpy(np.zeros(shape, np.float32))
        self._reads[tensor.data_ptr()] = read
        return tensor

    def read(self, tensor: torch.Tensor) -> Read:
        """What gives the values of a tensor of the network, fp32."""
        return self._reads.get(tensor.data_ptr(), tensor.detach)


@contextlib.contextmanager
def unread_weights(
    network: nn.Module, source: nn.Module, weights: Weights
) -> Iterator[UnreadWeights]:
    """While open, parameters of `network` that are on `meta` are ordinary tensors: small ones with
    their values, large ones without.

    Args:
        network: made from `source`, whose parameters it views.
        weights: values of the parameters of `source`.

    Raises:
        UserError: a weight holds NaN or inf; also when it is read later.
    """
    unread = UnreadWeights()
    names = {storage_key(p)[0]: name for name, p in source.named_parameters()}
    made: dict[tuple[object, ...], nn.Parameter] = {}
    checked: set[str] = set()
    tables = [module._parameters for module in network.modules()]
    swapped = [
        (table, name, parameter)
        for table in tables
        for name, parameter in table.items()
        if parameter is not None and parameter.is_meta
    ]
    for table, name, view in swapped:
        key = (storage_key(view), view.shape, view.stride())
        if key not in made:
            read = partial(_read, weights, names[storage_key(view)[0]], view, checked)
            tensor = read() if is_small(view) else unread.add(tuple(view.shape), read)
            made[key] = nn.Parameter(tensor, requires_grad=False)
        table[name] = made[key]
    try:
        yield unread
    finally:
        for table, name, parameter in swapped:
            table[name] = parameter


def is_small(tensor: torch.Tensor) -> bool:
    """Whether the exporter may look at the values of an fp32 constant."""
    from litert_torch.backend import inline_consts

    least = inline_consts.config.resource_constant_numel_threshold
    return bool(tensor.numel() * _ITEM < least)


def _read(weights: Weights, name: str, view: torch.Tensor, checked: set[str]) -> torch.Tensor:
    """The values of a view on `meta` of a parameter, looked at the first time it is read."""
    value = weights.value(name)
    if name not in checked and not np.isfinite(value).all():
        raise UserError(f"{weights.origin(name)} holds NaN or inf; get an intact checkpoint")
    checked.add(name)
    whole = torch.from_numpy(np.ascontiguousarray(value)).float()
    return whole.as_strided(view.shape, view.stride(), view.storage_offset())
