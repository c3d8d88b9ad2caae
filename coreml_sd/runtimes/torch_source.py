"""The torch runtime: the source network as published, behind the interface of a bundle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from coreml_sd.models.component import ComponentSpec, TensorSpec
from coreml_sd.runtimes.base import Array, TensorInfo, check_inputs


class SourceNetwork:
    """A component's published network in fp32; inputs are not rounded to the file's types."""

    def __init__(self, component: ComponentSpec, network: nn.Module | None = None) -> None:
        self.component = component
        self.module = component.published(network if network is not None else component.load())

    @property
    def inputs(self) -> Mapping[str, TensorInfo]:
        """The component's inputs, all float32 here."""
        return {spec.name: _info(spec) for spec in self.component.inputs}

    @property
    def outputs(self) -> Mapping[str, TensorInfo]:
        """The component's outputs."""
        return {spec.name: _info(spec) for spec in self.component.outputs}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One forward pass."""
        arrays = check_inputs(self.component.name, self.inputs, inputs)
        with torch.inference_mode():
            results = self.module(*(torch.from_numpy(np.array(array)) for array in arrays.values()))
        return {
            spec.name: result.numpy()
            for spec, result in zip(self.component.outputs, results, strict=True)
        }

    def close(self) -> None:
        """Let the weights go."""
        self.module = nn.Identity()


def _info(spec: TensorSpec) -> TensorInfo:
    return TensorInfo(spec.name, spec.shape, "float32")
