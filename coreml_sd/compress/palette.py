"""One weight as a palette: a short table of fp16 values and an index per weight."""

from __future__ import annotations

import hashlib
import math
import threading
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coreml_sd.compress.bits import pack_looked_up, packed_size
from coreml_sd.compress.compiled import compiled_within, require_flat
from coreml_sd.compress.histogram import PATTERNS, Histogram, bit_patterns, histogram
from coreml_sd.compress.kmeans import kmeans_1d
from coreml_sd.compress.supported import PaletteSpec

# weight.bin: a 64-byte record before each blob, and each blob starts at a multiple of 64.
_RECORD = 64

_FINITE = np.flatnonzero((np.arange(PATTERNS) & 0x7C00) != 0x7C00)
_FINITE_VALUES = _FINITE.astype(np.uint16).view(np.float16).astype(np.float64)


def blob_bytes(payload: int) -> int:
    """Bytes that `payload` bytes take in weight.bin, with their record and their alignment."""
    return _RECORD + -(-payload // _RECORD) * _RECORD


@dataclass(frozen=True)
class Palette:
    """A palettized weight.

    `lut`: (groups, 2**bits) float16, ascending in each row. Group g holds the rows g*group_size to
    (g+1)*group_size of the first axis; `group_size` is None for one palette per tensor.
    `squared_error` sums over all weights; `snr_db` is `metrics.psnr_db` of the decoded weight.
    Bytes are those in weight.bin. The indices, as large as the file, are made of the weight when
    they are needed: always the nearest entry, so that everyone gets the same.
    """

    bits: int
    lut: NDArray[np.float16]
    shape: tuple[int, ...]
    group_size: int | None
    squared_error: float
    snr_db: float

    @property
    def groups(self) -> int:
        """Number of look-up tables."""
        return int(self.lut.shape[0])

    @property
    def stored_bytes(self) -> int:
        """Bytes of indices and tables."""
        return palette_bytes(math.prod(self.shape), self.bits, self.groups)

    @property
    def dense_bytes(self) -> int:
        """Bytes of the same weight in fp16."""
        return blob_bytes(2 * math.prod(self.shape))

    def indices(self, weight: NDArray[np.float16]) -> NDArray[np.uint8]:
        """For each weight its place in its group's table, in the weight's shape."""
        found = np.empty((self.groups, weight.size // self.groups), dtype=np.uint8)
        rows = bit_patterns(weight).reshape(found.shape)
        for table, row, places in zip(self.lut, rows, found, strict=True):
            _look_up(row, index_of_pattern(table), places)
        return found.reshape(weight.shape)

    def packed(self, weight: NDArray[np.float16]) -> NDArray[np.uint8]:
        """The indices as the file holds them: `bits` bits each, least significant bit first."""
        found = np.zeros(packed_size(weight.size, self.bits), dtype=np.uint8)
        rows = bit_patterns(weight).reshape(self.groups, -1)
        for group, (table, row) in enumerate(zip(self.lut, rows, strict=True)):
            pack_looked_up(row, index_of_pattern(table), self.bits, found, group * row.size)
        return found

    def decoded(self, weight: NDArray[np.float16]) -> NDArray[np.float16]:
        """What the file holds instead of `weight`, in its shape."""
        rows = self.indices(weight).reshape(self.groups, -1)
        parts = [table[row] for table, row in zip(self.lut, rows, strict=True)]
        dense: NDArray[np.float16] = np.concatenate(parts).reshape(weight.shape)
        return dense


def palette_bytes(size: int, bits: int, groups: int) -> int:
    """Bytes in weight.bin of `size` palettized weights with `groups` tables."""
    return blob_bytes(packed_size(size, bits)) + blob_bytes(2 * groups * (1 << bits))


def fitting_group_size(channels: int, wanted: int) -> int | None:
    """The group size used for `channels` rows: Core ML needs it to divide them.

    `wanted` where it divides, else the largest divisor below it that is at least half of it (so
    that the tables stay a small part of the file), else None: one palette for the tensor, as
    where one group holds all channels.
    """
    if channels <= wanted:
        return None
    for size in range(wanted, (wanted + 1) // 2 - 1, -1):
        if channels % size == 0:
            return size
    return None


class PaletteSolver:
    """Palettizes weights; equal histograms at equal bits share one solve. Safe between threads."""

    def __init__(self) -> None:
        self._solved: dict[bytes, Future[tuple[NDArray[np.float16], float]]] = {}
        self._lock = threading.Lock()

    @property
    def solves(self) -> int:
        """Number of k-means problems solved (not taken from an earlier equal one)."""
        return len(self._solved)

    def palettize(
        self, weight: NDArray[np.float16], spec: PaletteSpec, name: str = "weight"
    ) -> Palette:
        """The optimal palette of `weight` (float16, any shape).

        A channel count that the group size does not divide gets `fitting_group_size`.

        Raises:
            UserError: the weight holds NaN or infinity; the message has `name`.
        """
        if weight.dtype != np.float16:
            raise TypeError(f"{name}: palettes are made of float16 weights, not {weight.dtype}")
        group_size = None
        if spec.group_size is not None and weight.ndim:
            group_size = fitting_group_size(weight.shape[0], spec.group_size)
        groups = weight.shape[0] // group_size if group_size else 1
        rows = bit_patterns(weight).reshape(groups, -1)
        luts, error, peak = [], 0.0, 0.0
        for row in rows:
            counted = histogram(row.view(np.float16), name)
            lut, squared_error = self._solve(counted, spec.bits)
            luts.append(lut)
            error += squared_error
            peak = max(peak, counted.peak)
        return Palette(
            bits=spec.bits,
            lut=np.stack(luts),
            shape=weight.shape,
            group_size=group_size,
            squared_error=error,
            snr_db=_decibels(peak, error / weight.size),
        )

    def _solve(self, counted: Histogram, bits: int) -> tuple[NDArray[np.float16], float]:
        digest = hashlib.blake2b(counted.values.tobytes(), digest_size=16, salt=bytes([bits]))
        digest.update(counted.counts.tobytes())
        key = digest.digest()
        with self._lock:
            shared = self._solved.get(key)
            mine: Future[tuple[NDArray[np.float16], float]] | None = None
            if shared is None:
                mine = shared = self._solved[key] = Future()
        if mine is not None:
            try:
                mine.set_result(_fp16_table(counted, bits))
            except BaseException as error:
                mine.set_exception(error)
        return shared.result()


def palettize(weight: NDArray[np.float16], spec: PaletteSpec) -> Palette:
    """The optimal palette of one weight; see `PaletteSolver.palettize`."""
    return PaletteSolver().palettize(weight, spec)


def _fp16_table(counted: Histogram, bits: int) -> tuple[NDArray[np.float16], float]:
    """The optimal centroids rounded to fp16, and the squared error that the rounding leaves."""
    entries = 1 << bits
    centroids = kmeans_1d(counted.values, counted.counts, entries).centroids
    lut = np.full(entries, centroids[-1], dtype=np.float16)
    lut[: centroids.size] = centroids
    residual = counted.values - lut.astype(np.float64)[_nearest(counted.values, lut)]
    return lut, float(np.sum(counted.counts * residual * residual))


def _nearest(values: NDArray[np.float64], lut: NDArray[np.float16]) -> NDArray[np.intp]:
    """Index of the nearest table entry; half-way goes down, equal entries to the first."""
    table = lut.astype(np.float64)
    return np.searchsorted((table[1:] + table[:-1]) / 2, values)


def index_of_pattern(lut: NDArray[np.float16]) -> NDArray[np.uint8]:
    """For each of the 65,536 bit patterns the place of its nearest entry in one table; patterns of
    NaN and infinity hold 0."""
    table = np.zeros(PATTERNS, dtype=np.uint8)
    table[_FINITE] = _nearest(_FINITE_VALUES, lut).astype(np.uint8)
    return table


def _check_look_up(
    patterns: NDArray[np.uint16], table: NDArray[np.uint8], indices: NDArray[np.uint8]
) -> None:
    require_flat(patterns, np.uint16, 0)
    require_flat(table, np.uint8, PATTERNS)
    require_flat(indices, np.uint8, patterns.size)


@compiled_within(_check_look_up)
def _look_up(
    patterns: NDArray[np.uint16], table: NDArray[np.uint8], indices: NDArray[np.uint8]
) -> None:
    for i in range(patterns.size):
        indices[i] = table[patterns[i]]


def _decibels(peak: float, mean_squared_error: float) -> float:
    if mean_squared_error == 0.0:
        return math.inf
    return 20.0 * math.log10(peak) - 10.0 * math.log10(mean_squared_error)
