"""What the headers of weight files tell about a network, which is not built for this."""

from __future__ import annotations

import math
from dataclasses import dataclass

from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.weights.values import is_layer

_HALVES = {  # of an autoencoder's file
    "latent_decoder": ("decoder.", "post_quant_conv."),
    "latent_encoder": ("encoder.", "quant_conv."),
}


@dataclass(frozen=True)
class NetworkSize:
    """Shapes of a component's tensors by name, the layers among them (what palettes are made of),
    and its numbers in all."""

    shapes: dict[str, tuple[int, ...]]
    layers: tuple[str, ...]
    parameters: int


def network_size(folder: DiffusersFolder, component: ComponentSpec) -> NetworkSize:
    """Read the headers of a component's weight files.

    Raises:
        UserError: a file is missing or damaged.
    """
    starts = _HALVES.get(component.role, ("",))
    every = folder.tensor_shapes(component.part).items()
    shapes = {name: shape for name, shape in every if name.startswith(starts)}
    layers = tuple(name for name, shape in shapes.items() if is_layer(name, shape))
    return NetworkSize(shapes, layers, sum(map(math.prod, shapes.values())))
