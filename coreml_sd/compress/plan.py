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
from coreml_sd.compress.palette import Palette, PaletteSolver, blob_bytes, palette_bytes

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
        values = {
            name: torch.from_numpy(self.by_digest[digest].decode().astype(np.float32))
            for name, digest in self.by_parameter.items()
        }
        with replaced_weights(module, values):
            yield


@contextlib.contextmanager
def replaced_weights(
    module: nn.Module, values: dict[str, torch.Tensor] | None = None
) -> Iterator[None]:
    """Parameters set to `values` by name, all others rounded to fp16; restored at the end."""
    originals = {}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            originals[name] = parameter.detach().clone()
            new = (values or {}).get(name)
            parameter.copy_(parameter.half() if new is None else new.reshape(parameter.shape))
        try:
            yield
        finally:
            for name, parameter in module.named_parameters():
                parameter.copy_(originals[name])


def palettize_module(
    module: nn.Module, spec: PaletteSpec, progress: Progress | None = None
) -> Palettization:
    """Solve the palettes of all convolution, linear and embedding weights worth it.

    Raises:
        UserError: a weight holds NaN or infinity, named.
    """
    result = Palettization(spec)
    weights = dict(_candidates(module))
    solver = PaletteSolver()

    def solve(item: tuple[str, torch.Tensor]) -> tuple[str, NDArray[np.float16], Palette | None]:
        name, parameter = item
        weight = parameter.detach().half().numpy()
        worth = _worth_it(weight.size, spec)
        return name, weight, solver.palettize(weight, spec, name) if worth else None

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, (name, weight, palette) in enumerate(pool.map(solve, weights.items()), start=1):
            result.records.append(_record(name, weight, palette))
            if palette is not None:
                digest = weight_digest(weight)
                result.by_digest[digest] = palette
                result.by_parameter[name] = digest
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


def _worth_it(size: int, spec: PaletteSpec) -> bool:
    dense = blob_bytes(2 * size)
    return palette_bytes(size, spec.bits, 1) + _OP_BYTES < (1 - _LEAST_GAIN) * dense


def _record(name: str, weight: NDArray[np.float16], palette: Palette | None) -> WeightRecord:
    dense = blob_bytes(2 * weight.size)
    if palette is None:
        return WeightRecord(
            name, weight.shape, 16, 0, dense, dense, 0.0, math.inf, "too small to gain"
        )
    reason = ""
    if palette.indices.ndim and palette.group_size is None and palette.groups == 1:
        reason = "one palette"
    return WeightRecord(
        name,
        weight.shape,
        palette.bits,
        palette.groups,
        dense,
        palette.stored_bytes,
        palette.squared_error,
        palette.snr_db,
        reason,
    )
