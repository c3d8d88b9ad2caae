"""Which weights of a network become palettes, decided before anything is exported."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from coreml_sd.compress.choose import affordable
from coreml_sd.compress.palette import Palette, blob_bytes
from coreml_sd.compress.solve import Shapes, Solved, solve_palettes
from coreml_sd.compress.supported import PaletteSpec
from coreml_sd.mobile.layer_weights import layer_weights
from coreml_sd.models.weights.values import FileWeights, ModuleWeights, Place, Weights

Progress = Callable[[int, int], None]  # tensors done, tensors in all


@dataclass(frozen=True)
class WeightRecord:
    """What became of one weight. `bits` 16 means fp16, for the `reason` given. Bytes are those
    in weight.bin; `snr_db` is the peak-based dB of `metrics.psnr_db`."""

    parameter: str
    shape: tuple[int, ...]
    bits: int
    groups: int
    dense_bytes: int
    stored_bytes: int
    squared_error: float
    snr_db: float
    reason: str = ""


@dataclass
class Palettization:
    """The palettes of one network by parameter, and what became of every weight."""

    spec: PaletteSpec
    records: list[WeightRecord] = field(default_factory=list)
    by_parameter: dict[str, Palette] = field(default_factory=dict)

    def decoded(self, name: str, parameter: torch.Tensor) -> torch.Tensor:
        """What the file holds instead of a parameter: its palette decoded, or else fp16."""
        palette = self.by_parameter.get(name)
        if palette is None:
            return parameter.half()
        return torch.from_numpy(palette.decoded(parameter.half().contiguous().numpy()))


def palettize_module(
    module: nn.Module,
    spec: PaletteSpec,
    progress: Progress | None = None,
    *,
    weights: Weights | None = None,
    workers: int | None = None,
    known: Mapping[Place, Palette] | None = None,
) -> Palettization:
    """Solve the palettes of all convolution, linear and embedding weights worth it.

    Args:
        progress: called with tensors done and tensors in all.
        weights: where the values come from; the module's own parameters where not given.
        workers: threads; each holds one weight at a time.
        known: palettes of tensors in the files of `weights` that were solved already.

    Raises:
        UserError: a weight holds NaN, infinity or a value beyond fp16; the message names it.
    """
    result = Palettization(spec)
    held = weights or ModuleWeights(module)
    shapes = {name: tuple(weight.shape) for name, weight in layer_weights(module).items()}
    solved = _known(shapes, spec, held, known or {})
    count = len(solved)

    def each(name: str, found: Solved) -> None:
        nonlocal count
        count += 1
        if progress:
            progress(count, len(shapes))

    rest = {name: shape for name, shape in shapes.items() if name not in solved}
    solved |= solve_palettes(rest, spec, held, each, workers)
    for name, shape in shapes.items():
        palette, reason = solved[name]
        if palette is not None:
            result.by_parameter[name] = palette
        result.records.append(_record(name, shape, palette, reason))
    return result


def _known(
    shapes: Shapes, spec: PaletteSpec, weights: Weights, known: Mapping[Place, Palette]
) -> dict[str, Solved]:
    """Of the palettes of whole tensors those that are the weights' own."""
    if not known or not isinstance(weights, FileWeights):
        return {}
    found: dict[str, Solved] = {}
    for name, shape in shapes.items():
        palette = known.get(weights.place(name))
        chosen, reason = affordable(shape, spec)
        # A layer may have its tensor in another shape: rows, and so groups, must be the same.
        if palette and chosen and _rows(palette.shape) == _rows(shape):
            found[name] = dataclasses.replace(palette, shape=shape), reason
    return found


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many, and their length."""
    return shape[0], math.prod(shape[1:])


def _record(
    name: str, shape: tuple[int, ...], palette: Palette | None, reason: str
) -> WeightRecord:
    dense = blob_bytes(2 * math.prod(shape))
    if palette is None:
        return WeightRecord(name, shape, 16, 0, dense, dense, 0.0, math.inf, reason)
    return WeightRecord(
        name,
        shape,
        palette.bits,
        palette.groups,
        dense,
        palette.stored_bytes,
        palette.squared_error,
        palette.snr_db,
        reason,
    )
