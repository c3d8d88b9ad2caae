"""What a family says about each of its networks: names, shapes, sample inputs, how to load it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from coreml_sd.models.weights.placeholder_network import OpenNetwork

DType = Literal["float16", "float32", "int32"]
Arrays = dict[str, NDArray[np.generic]]
Role = Literal["text_encoder", "denoiser", "latent_decoder", "latent_encoder"]


@dataclass(frozen=True)
class TensorSpec:
    """One named input or output of a component, as the exported file declares it."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    description: str


@dataclass(frozen=True)
class ComponentSpec:
    """One network of a pipeline; `role` is what it does there, whatever its name.

    `load` returns the source network (as diffusers or transformers defines it) in fp32 and eval
    mode; `open` the same without reading its weights, which lie in the folder `part` of the model.
    `published` wraps it so that its forward takes tensors in the order of `inputs` and
    returns a tuple in the order of `outputs`: the reference that every export is held against.
    `form` is the key of its mobile form, where that is not its name.
    """

    name: str
    role: Role
    file_name: str
    description: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    load: Callable[[], nn.Module]
    open: Callable[[], OpenNetwork]
    published: Callable[[nn.Module], nn.Module]
    sample_inputs: Callable[[int], Arrays]
    form: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "form", self.form or self.name)

    @property
    def part(self) -> str:
        """The folder that its weights lie in: both halves of a VAE have one."""
        return "vae" if self.role in ("latent_decoder", "latent_encoder") else self.name
