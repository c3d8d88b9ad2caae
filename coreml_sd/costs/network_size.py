"""What the headers of weight files tell about a network: layers, multiply-adds, activations.

No network is built for this: names and shapes say where in the U a layer stands, and so how many
positions it works on.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.weights.values import is_layer

# Parts of an autoencoder's file, told apart by the names of its tensors.
_HALVES = {
    "latent_decoder": ("decoder.", "post_quant_conv."),
    "latent_encoder": ("encoder.", "quant_conv."),
}
_BLOCK = re.compile(r"(?:^|\.)(down|up)_blocks\.(\d+)\.")
_ONE_POSITION = re.compile(r"time_emb|add_emb|text_projection")
_CONTEXT = re.compile(r"attn2\.to_[kv]\.")
_SELF_ATTENTION = re.compile(r"(attn1|self_attn|mid_block\.attentions\.\d+)\.(to_q|q_proj)\.weight")
_CROSS_ATTENTION = re.compile(r"attn2\.to_q\.weight")
_EMBEDDING = re.compile(r"(token|position)_embedding\.")


@dataclass(frozen=True)
class NetworkSize:
    """Sizes of one component: its tensors by name, the layers among them (what palettes are made
    of), numbers in all, multiply-adds of a pass, and the values of its largest activation."""

    shapes: dict[str, tuple[int, ...]]
    layers: tuple[str, ...]
    parameters: int
    macs: int
    activation: int


def network_size(folder: DiffusersFolder, component: ComponentSpec) -> NetworkSize:
    """Read the headers of a component's weight files and count.

    Raises:
        UserError: a file is missing or damaged.
    """
    shapes = tensor_shapes(folder, component)
    layers = tuple(name for name, shape in shapes.items() if is_layer(name, shape))
    places = _Places(component, shapes)
    macs = activation = 0
    for name in layers:
        shape, positions = shapes[name], places.positions(name)
        if not _EMBEDDING.search(name):
            macs += math.prod(shape) * positions
        activation = max(activation, shape[0] * positions)
        macs += 2 * shape[0] * positions * places.attended(name)
    return NetworkSize(shapes, layers, sum(map(math.prod, shapes.values())), macs, activation)


def tensor_shapes(folder: DiffusersFolder, component: ComponentSpec) -> dict[str, tuple[int, ...]]:
    """Shapes of a component's tensors by name, from the headers alone."""
    starts = _HALVES.get(component.role, ("",))
    shapes = folder.tensor_shapes(component.part)
    return {name: shape for name, shape in shapes.items() if name.startswith(starts)}


class _Places:
    """How many positions each layer of one component works on."""

    def __init__(self, component: ComponentSpec, shapes: dict[str, tuple[int, ...]]) -> None:
        self._role = component.role
        first = component.inputs[0].shape
        self._batch = first[0]
        self._positions = math.prod(first[2:]) if len(first) == 4 else first[-1]
        blocks = [int(found[2]) for name in shapes if (found := _BLOCK.search(name))]
        self._last = max(blocks, default=0)
        context = next((s for s in component.inputs if s.name == "encoder_hidden_states"), None)
        self._context = context.shape[-1] if context else 0

    def positions(self, name: str) -> int:
        """Batch times positions of a layer's output."""
        if _ONE_POSITION.search(name):
            return self._batch
        if _CONTEXT.search(name):
            return self._batch * self._context
        level = self._level(name)
        if level < 0:
            return self._batch * (self._positions >> -2 * level)
        return self._batch * (self._positions << 2 * level)

    def attended(self, name: str) -> int:
        """Positions that each position attends to, at the layer that makes its queries."""
        if _CROSS_ATTENTION.search(name):
            return self._context
        if _SELF_ATTENTION.search(name):
            return self.positions(name) // self._batch
        return 0

    def _level(self, name: str) -> int:
        """Doublings (or, negative, halvings) of the sides since the input."""
        found = _BLOCK.search(name)
        if self._role == "latent_decoder":
            if found:
                return int(found[2]) + ("upsamplers" in name)
            return self._last if name.endswith("conv_out.weight") else 0
        if found is None:
            return -self._last if self._deep(name) else 0
        if found[1] == "down":
            return -int(found[2]) - ("downsamplers" in name)
        return int(found[2]) - self._last + ("upsamplers" in name)

    def _deep(self, name: str) -> bool:
        ends = self._role == "latent_encoder" and ("conv_out" in name or "quant_conv" in name)
        return "mid_block" in name or ends
