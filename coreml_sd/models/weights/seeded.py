"""A model of a given architecture with seeded random weights, which are made when they are needed.

For an architecture whose trained weights do not exist: it can be counted, converted, executed and
compared, and draws noise. No weight lies on the disk, and none is held.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.weights.values import set_tensor

if TYPE_CHECKING:
    from torch import nn

_AT_ONCE = 1 << 20  # numbers drawn together
_PROBE = 1000  # numbers that tell whether this numpy draws the same ones
_NORM_SPREAD, _BIAS_SPREAD = 0.1, 0.02


class SeededWeights:
    """Values of parameters by their names and shapes; equal seeds give equal values.

    Layers keep the size of what goes through them (a standard deviation of one over the root of
    their inputs), norms are near one, biases near zero. All are fp16 numbers.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], seed: str) -> None:
        self._shapes, self._seed = dict(shapes), seed

    def value(self, name: str) -> NDArray[np.float16]:
        """Draw one parameter."""
        shape = self._shapes[name]
        size = math.prod(shape)
        centre, spread = _distribution(name, shape)
        drawn = np.empty(size, np.float16)
        numbers = _numbers(f"{self._seed}/{name}")
        for begin in range(0, size, _AT_ONCE):
            count = min(_AT_ONCE, size - begin)
            normal = numbers.standard_normal(count, dtype=np.float32)
            drawn[begin : begin + count] = centre + spread * normal
        return drawn.reshape(shape)

    def origin(self, name: str) -> str:
        """The parameter's name and where it comes from."""
        return f"{name} (random, {self._seed})"


def _distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if len(shape) > 1:
        return 0.0, math.prod(shape[1:]) ** -0.5
    return (1.0, _NORM_SPREAD) if name.endswith("weight") else (0.0, _BIAS_SPREAD)


def _numbers(seed: str) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16])
    return np.random.Generator(np.random.Philox(key=key))


@dataclass(frozen=True)
class SeededFolder(DiffusersFolder):
    """A folder whose configs are `files` (by their paths) and whose weights are drawn.

    The tokenizer and its advice are those that lie under `path`.
    """

    name: str
    files: Mapping[str, dict[str, Any]]
    _counted: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict, repr=False)

    def json_file(self, relative: str) -> dict[str, Any]:
        """One of `files`, or a file that lies in the folder."""
        return self.files[relative] if relative in self.files else super().json_file(relative)

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing to say of files."""
        return ()

    def weight_files(self, part: str) -> list[Path]:
        """There are none."""
        return []

    def check_weights(self, part: str) -> None:
        """Nothing can be damaged."""

    def weight_bytes(self, part: str) -> int:
        """What the network would take on the disk in fp16."""
        return sum(2 * math.prod(shape) for shape in self.tensor_shapes(part).values())

    def tensor_shapes(self, part: str) -> dict[str, tuple[int, ...]]:
        """Of the network as its config defines it."""
        from coreml_sd.models.weights.network_classes import build_on_meta

        if part not in self._counted:
            self._counted[part] = _shapes(build_on_meta(self.config(part), part))
        return self._counted[part]

    def weights(self, part: str, module: nn.Module) -> SeededWeights:
        """The values for a network of this folder."""
        return SeededWeights(_shapes(module), f"{self.name}/{part}")

    def loaded(self, part: str) -> nn.Module:
        """A network with its values in fp32."""
        import torch

        from coreml_sd.models.weights.network_classes import build_on_meta

        module = build_on_meta(self.config(part), part)
        weights = self.weights(part, module)
        for name in [name for name, _ in module.named_parameters()]:
            value = torch.from_numpy(weights.value(name)).float()
            set_tensor(module, name, torch.nn.Parameter(value, requires_grad=False))
        for name, buffer in list(module.named_buffers()):  # positions of tokens, counted
            set_tensor(module, name, torch.arange(buffer.numel()).reshape(buffer.shape))
        return module.eval()

    def digest(self) -> str:
        """SHA-256 over configs, seed and the numbers that this numpy draws."""
        total = hashlib.sha256(json.dumps([self.name, self.files], sort_keys=True).encode())
        probe = SeededWeights({"probe.weight": (_PROBE, 1)}, self.name)
        total.update(probe.value("probe.weight").tobytes())
        for name in self._tokenizer_files():
            total.update((self.path / "tokenizer" / name).read_bytes())
        return total.hexdigest()

    def licence_and_author(self) -> tuple[str, str]:
        """Random numbers have neither; the architecture is the paper's."""
        return "none: random weights", "coreml-sd, after arXiv 2311.16567"

    def _tokenizer_files(self) -> Iterable[str]:
        return ("vocab.json", "merges.txt", "tokenizer_config.json")


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(parameter.shape)
        for name, parameter in module.named_parameters(remove_duplicate=False)
    }
