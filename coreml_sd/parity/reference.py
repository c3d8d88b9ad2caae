"""The source network that files are held against, run without being in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from coreml_sd.compress.source_network import OpenedSource
from coreml_sd.compress.weight_streaming import NetworkWeights, TensorSource
from coreml_sd.errors import UserError
from coreml_sd.models.component import Arrays, ComponentSpec
from coreml_sd.models.weights.values import FileWeights, Weights, not_finite
from coreml_sd.runtimes.torch_source import SourceNetwork

_POSITIONS = "position_ids"


@dataclass(frozen=True)
class Reference:
    """A network as published and, where it is on `meta`, the values of its parameters; `release`
    frees what reading them has brought into memory."""

    network: nn.Module
    values: TensorSource | None = None
    release: Callable[[], None] = lambda: None

    @property
    def weights(self) -> NetworkWeights:
        """The weights in fp32, each fetched for the op that reads it."""
        return NetworkWeights(self.network, self.values)

    def outputs(self, component: ComponentSpec, inputs: Sequence[Arrays]) -> list[Arrays]:
        """What the network gives for each of `inputs`."""
        published = SourceNetwork(component, self.network)
        with self.weights.given_to(published.module):
            found = [published.run(given) for given in inputs]
        self.release()
        return found


def named(own: Reference | None) -> str:
    """How a check names what a network is held against."""
    return "the source" if own is None else "diffusers' pipeline"


def reference(component: ComponentSpec, opened: OpenedSource) -> Reference:
    """What a component's files are held against.

    A network that was changed is only in memory. Any other is opened: none of it is.

    Raises:
        UserError: the files are missing or damaged.
    """
    if opened.pruning is not None or opened.rescaling is not None:
        return Reference(opened.network)
    unread = component.open()
    if _filled(unread.module):
        return Reference(unread.module, ReferenceValues(unread.weights))
    return Reference(opened.network if opened.in_memory else component.load())


def _filled(network: nn.Module) -> bool:
    """Give it the buffers that no file holds; False where one is not known."""
    for name, buffer in list(network.named_buffers()):
        if not name.endswith(_POSITIONS):
            return False
        owner, _, leaf = name.rpartition(".")
        positions = torch.arange(buffer.numel()).reshape(buffer.shape)
        network.get_submodule(owner).register_buffer(leaf, positions, persistent=False)
    return True


class ReferenceValues:
    """Values of an opened network's parameters: a `TensorSource` of `compress.weight_streaming`.

    Those of files are read by safetensors itself: what is exported is read by `TensorFile`. Those
    that are drawn are kept, in fp16, for drawing takes longer than most ops.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._drawn: dict[str, torch.Tensor] = {}
        self._checked: set[str] = set()

    def tensor(self, name: str) -> torch.Tensor:
        """A parameter's values, in the width that they are stored in.

        Raises:
            UserError: they hold NaN or infinity, or the file is damaged.
        """
        if isinstance(self._weights, FileWeights):
            value = _read(self._weights, name)
            value = value.half() if value.itemsize == 1 else value  # 8-bit floats
            if name not in self._checked and not torch.isfinite(value).all():
                raise not_finite(self._weights.origin(name))
            self._checked.add(name)
            return value
        if name not in self._drawn:
            self._drawn[name] = torch.from_numpy(self._weights.value(name))
        return self._drawn[name]


def _read(weights: FileWeights, name: str) -> torch.Tensor:
    from safetensors import SafetensorError, safe_open

    path, key = weights.place(name)
    try:
        # Opened for each: pages of an open file's mapping stay with the process.
        with safe_open(path, framework="pt") as tensors:
            value: torch.Tensor = tensors.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: truncated or damaged ({error}); download it again") from None
    return value
