"""The costs of one saved file: parameters, multiply-accumulates, bytes, predicted peak memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from coreml_sd.runtimes.base import StoredWeight


@dataclass(frozen=True)
class FileCosts:
    """Costs of one .mlpackage or .tflite.

    `macs` are the multiply-accumulates of one pass in convolutions and matrix products. `ops`
    counts ops by kind, constants left out. `activation_bytes` is the largest set of inputs and
    intermediates that are alive at once, in the types that the file declares.
    """

    path: str
    parameters: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    ops: dict[str, int]
    weights: tuple[StoredWeight, ...]

    @property
    def peak_bytes(self) -> int:
        """Stored weights and the largest set of live tensors. A runtime that keeps a second copy
        of the weights, widened or repacked, needs more."""
        return self.weight_bytes + self.activation_bytes


def merged_histogram(costs: Sequence[FileCosts]) -> dict[str, int]:
    """Op kinds over several files, most frequent first."""
    total: Counter[str] = Counter()
    for entry in costs:
        total.update(entry.ops)
    return dict(total.most_common())
