"""Which weights of a network become palettes, decided before anything is exported."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

import torch
from torch import nn

from coreml_sd.compress.limits import PaletteSpec
from coreml_sd.compress.palette import (
    Palette,
    PaletteSolver,
    blob_bytes,
    fitting_group_size,
    palette_bytes,
)
from coreml_sd.compress.weights import replaced_weights
from coreml_sd.mobile.weights import layer_weights
from coreml_sd.models.weights import ModuleWeights, Weights, fp16_value

# Below this gain a palette is not worth its tables and its op in the program (about 500 bytes).
_LEAST_GAIN = 0.1
_OP_BYTES = 512

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

    @contextlib.contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """The network with the weights of the file: palettes decoded, everything else fp16.

        Works in place on the parameters (and so on every module that shares their storage);
        the original values return at the end.
        """

        def decoded(name: str, parameter: torch.Tensor) -> torch.Tensor:
            palette = self.by_parameter.get(name)
            if palette is None:
                return parameter.half()
            return torch.from_numpy(palette.decoded(parameter.half().contiguous().numpy()))

        with replaced_weights(module, decoded):
            yield


def palettize_module(
    module: nn.Module,
    spec: PaletteSpec,
    progress: Progress | None = None,
    *,
    weights: Weights | None = None,
    workers: int | None = None,
) -> Palettization:
    """Solve the palettes of all convolution, linear and embedding weights worth it.

    Args:
        progress: called with tensors done and tensors in all.
        weights: where the values come from; the module's own parameters where not given.
        workers: threads; each holds one weight at a time.

    Raises:
        UserError: a weight holds NaN, infinity or a value beyond fp16; the message names it.
    """
    result = Palettization(spec)
    held = weights or ModuleWeights(module)
    shapes = {name: tuple(weight.shape) for name, weight in layer_weights(module).items()}
    solver = PaletteSolver()

    def solve(name: str) -> tuple[Palette | None, str]:
        chosen, reason = affordable(shapes[name], spec)
        if chosen is None:
            return None, reason
        weight = fp16_value(held, name).reshape(shapes[name])
        return solver.palettize(weight, chosen, name), reason

    # Large weights first: a thread that meets one last would work alone at the end.
    order = sorted(shapes, key=lambda name: -math.prod(shapes[name]))
    with ThreadPoolExecutor(max_workers=workers or os.cpu_count()) as pool:
        tasks = {name: pool.submit(solve, name) for name in order}
        try:
            for done, task in enumerate(as_completed(tasks.values()), start=1):
                task.result()
                if progress:
                    progress(done, len(tasks))
        finally:
            pool.shutdown(cancel_futures=True)
    for name, shape in shapes.items():
        palette, reason = tasks[name].result()
        if palette is not None:
            result.by_parameter[name] = palette
        result.records.append(_record(name, shape, palette, reason))
    return result


def stored_bytes(shape: tuple[int, ...], spec: PaletteSpec | None) -> int:
    """Bytes in weight.bin of a weight of that shape, known before it is read."""
    chosen = affordable(shape, spec)[0] if spec else None
    if chosen is None:
        return blob_bytes(2 * math.prod(shape))
    size = fitting_group_size(shape[0], chosen.group_size) if chosen.group_size else None
    return palette_bytes(math.prod(shape), chosen.bits, shape[0] // size if size else 1)


def affordable(shape: tuple[int, ...], spec: PaletteSpec) -> tuple[PaletteSpec | None, str]:
    """The spec for one weight: as asked, or with one palette, or None for fp16; and why."""
    size = math.prod(shape)
    single = PaletteSpec(spec.bits)
    if not _gains(size, spec.bits, 1):
        return None, "too small to gain"
    if spec.group_size is None:
        return single, ""
    group_size = fitting_group_size(shape[0], spec.group_size)
    if shape[0] <= spec.group_size:
        return single, f"one palette: {shape[0]} channels are one group"
    if group_size is None:
        return single, f"one palette: no fitting group size divides {shape[0]} channels"
    if not _gains(size, spec.bits, shape[0] // group_size):
        return single, f"one palette: tables for groups of {group_size} would cost more than fp16"
    if group_size != spec.group_size:
        reason = f"groups of {group_size}: {spec.group_size} does not divide {shape[0]} channels"
        return spec, reason
    return spec, ""


def _gains(size: int, bits: int, groups: int) -> bool:
    dense = blob_bytes(2 * size)
    return palette_bytes(size, bits, groups) + _OP_BYTES < (1 - _LEAST_GAIN) * dense


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
