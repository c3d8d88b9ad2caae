"""Export a network whose weights lie in files: what each is, is read when it is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from coreml_sd.mobile.replaced_tensors import replaced_tensors
from coreml_sd.models.weights.values import Weights, is_finite, not_finite
from coreml_sd.upstream import table
from coreml_sd.upstream.litert_torch_constants import is_small, is_uniform
from coreml_sd.upstream.torch_tensors import storage_key, storage_of

Read = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class _InFile:
    """A parameter in a file, or a part of one: `view` is on `meta`."""

    weights: Weights
    name: str
    view: torch.Tensor

    def read(self) -> torch.Tensor:
        """Its values, fp32."""
        return self._stored().float()

    def checked(self) -> torch.Tensor:
        """Its values as they are stored.

        Raises:
            UserError: NaN or inf.
        """
        stored = self._stored()
        if not is_finite(stored.contiguous().numpy()):
            raise not_finite(self.weights.origin(self.name))
        return stored

    def _stored(self) -> torch.Tensor:
        whole = torch.from_numpy(np.ascontiguousarray(self.weights.value(self.name)))
        view = self.view
        return whole.as_strided(view.shape, view.stride(), view.storage_offset())


class UnreadWeights:
    """Memory of a weight's size that nobody writes to, by its address, and where the weight is."""

    def __init__(self) -> None:
        self._held: dict[int, _InFile] = {}

    def add(self, weight: _InFile) -> torch.Tensor:
        """A tensor that stands for the weight; the system gives pages only to what is written."""
        tensor = torch.from_numpy(np.zeros(tuple(weight.view.shape), np.float32))
        self._held[tensor.data_ptr()] = weight
        return tensor

    def read(self, tensor: torch.Tensor) -> Read:
        """What gives the values of a tensor of the network, fp32, without infinities."""
        held = self._held.get(tensor.data_ptr())
        limits = torch.finfo(torch.float32)
        # The exporter clamps alike.
        return held.read if held else lambda: tensor.detach().clamp(limits.min, limits.max)

    def is_uniform(self, tensor: torch.Tensor) -> bool:
        """Whether all values of a tensor of the network are equal.

        Raises:
            UserError: it is read from a file and holds NaN or inf.
        """
        held = self._held.get(tensor.data_ptr())
        return is_uniform(held.checked() if held else tensor)


@contextlib.contextmanager
def unread_weights(
    network: nn.Module, source: nn.Module, weights: Weights
) -> Iterator[UnreadWeights]:
    """While open, parameters of `network` that are on `meta` are ordinary tensors: small ones with
    their values, large ones without, unless that is switched off (`coreml_sd.upstream.plain`).

    Args:
        network: made from `source`, whose parameters it views.
        weights: values of the parameters of `source`.

    Raises:
        UserError: a small weight holds NaN or inf.
    """
    unread = UnreadWeights()
    names = {storage_of(p): name for name, p in source.named_parameters()}
    made: dict[tuple[object, ...], nn.Parameter] = {}

    def ordinary(view: torch.Tensor) -> torch.Tensor:
        if not view.is_meta:
            return view
        key = (storage_key(view), view.shape, view.stride())
        if key not in made:
            weight = _InFile(weights, names[storage_of(view)], view)
            is_read = is_small(view) or not table.STAND_INS.is_on
            tensor = weight.checked().float() if is_read else unread.add(weight)
            made[key] = nn.Parameter(tensor, requires_grad=False)
        return made[key]

    with replaced_tensors(network, ordinary):
        yield unread
