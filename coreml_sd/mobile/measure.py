"""Shapes and costs of a mobile form, found without running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from coreml_sd.mobile.meta import on_meta
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.upstream.torch_dispatch import TorchDispatchMode

_FP16_BYTES = 2


@dataclass(frozen=True)
class NetworkCosts:
    """Multiply-accumulates of one pass, torch ops by kind; in fp16 bytes the largest set of named
    tensors alive at once with the largest tensor inside a step, and that tensor alone."""

    macs: int
    ops: dict[str, int]
    activation_bytes: int
    largest_bytes: int


def tensor_shapes(
    network: StepSequence, inputs: Sequence[TensorSpec]
) -> dict[str, tuple[int, ...]]:
    """The shape of every named tensor."""
    with on_meta(network), torch.no_grad():
        live = {spec.name: torch.empty(spec.shape, device="meta") for spec in inputs}
        for step in network.steps:
            result = step.module(*(live[name] for name in step.reads))
            written = result if isinstance(result, tuple) else (result,)
            live.update(zip(step.writes, written, strict=True))
    return {name: tuple(tensor.shape) for name, tensor in live.items()}


def network_costs(network: StepSequence, inputs: Sequence[TensorSpec]) -> NetworkCosts:
    """Count what one pass costs."""
    flops, ops = FlopCounterMode(display=False), _OpCounter()
    with flops, ops:
        shapes = tensor_shapes(network, inputs)
    seams = [
        sum(_FP16_BYTES * prod(shapes[name]) for name in network.seam(boundary))
        for boundary in range(len(network.steps) + 1)
    ]
    return NetworkCosts(
        flops.get_total_flops() // 2,
        dict(ops.kinds.most_common()),
        max(seams) + _FP16_BYTES * ops.largest,
        _FP16_BYTES * ops.largest,
    )


class _OpCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts ops by name and remembers the largest result, in elements."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kinds: Counter[str] = Counter()
        self.largest = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function.namespace == "aten":  # others only ask for a tensor's device
            self.kinds[function.overloadpacket.__name__] += 1
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result
