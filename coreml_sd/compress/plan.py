"""Which weights of a network become palettes, decided before anything is exported."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
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
from coreml_sd.errors import CoremlSDError, UserError

# Below this gain a palette is not worth its tables and its op in the program (about 500 bytes).
_LEAST_GAIN = 0.1
_OP_BYTES = 512
# Read whole and added, not looked up by index: too small to matter, and no op takes its palette.
_ADDED_WHOLE = ("position_embedding",)

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
    """The palettes of one network: `by_digest` for the export, `by_parameter` for the rest."""

    spec: PaletteSpec
    records: list[WeightRecord] = field(default_factory=list)
    by_digest: dict[str, Palette] = field(default_factory=dict)
    by_parameter: dict[str, str] = field(default_factory=dict)

    def restricted_to(self, module: nn.Module) -> Palettization:
        """The part that belongs to a piece of the network (a chunk)."""
        names = {name for name, _ in module.named_parameters()}
        kept = {name: digest for name, digest in self.by_parameter.items() if name in names}
        return Palettization(
            self.spec,
            [record for record in self.records if record.parameter in names],
            {digest: self.by_digest[digest] for digest in kept.values()},
            kept,
        )

    @contextlib.contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """The network with the weights of the file: palettes decoded, everything else fp16.

        Works in place on the parameters (and so on every module that shares their storage);
        the original values return at the end.
        """

        def decoded(name: str, parameter: torch.Tensor) -> torch.Tensor:
            digest = self.by_parameter.get(name)
            if digest is None:
                return parameter.half()
            return torch.from_numpy(self.by_digest[digest].decode())

        with replaced_weights(module, decoded):
            yield


def palettize_module(
    module: nn.Module, spec: PaletteSpec, progress: Progress | None = None
) -> Palettization:
    """Solve the palettes of all convolution, linear and embedding weights worth it.

    Args:
        progress: called with tensors done and tensors in all.

    Raises:
        UserError: a weight holds NaN, infinity or a value beyond fp16; the message names it.
    """
    result = Palettization(spec)
    weights = dict(_candidates(module))
    solver = PaletteSolver()

    def solve(item: tuple[str, torch.Tensor]) -> tuple[str, str, Palette | None, str]:
        name, parameter = item
        weight = _in_fp16(name, parameter)
        chosen, reason = _affordable(weight.shape, spec)
        palette = solver.palettize(weight, chosen, name) if chosen else None
        return name, weight_digest(weight), palette, reason

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, solved in enumerate(pool.map(solve, weights.items()), start=1):
            name, digest, palette, reason = solved
            shape = tuple(weights[name].shape)
            if palette is not None:
                # The file cannot tell weights of equal values apart: the first palette serves all.
                palette = result.by_digest.setdefault(digest, palette)
                result.by_parameter[name] = digest
                if shape[0] % palette.groups:
                    raise CoremlSDError(
                        f"{name} has the values of another weight but not its {palette.groups} "
                        "groups: use --granularity per-tensor"
                    )
            result.records.append(_record(name, shape, palette, reason))
            if progress:
                progress(done, len(weights))
    return result


def weight_digest(weight: NDArray[np.float16]) -> str:
    """Identifies a weight by its fp16 values and count; axes of length 1 do not matter."""
    contiguous = np.ascontiguousarray(weight)
    return hashlib.blake2b(contiguous.tobytes(), digest_size=20).hexdigest()


def _candidates(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding) and not path.endswith(
            _ADDED_WHOLE
        ):
            yield f"{path}.weight", layer.weight


def _in_fp16(name: str, parameter: torch.Tensor) -> NDArray[np.float16]:
    weight = parameter.detach().half()
    if bool(torch.isinf(weight).any()) and bool(torch.isfinite(parameter).all()):
        peak = float(parameter.detach().abs().max())
        raise UserError(f"{name}: largest weight {peak:.6g} does not fit in fp16 (65504)")
    array: NDArray[np.float16] = weight.contiguous().numpy()
    return array


def _affordable(shape: tuple[int, ...], spec: PaletteSpec) -> tuple[PaletteSpec | None, str]:
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
