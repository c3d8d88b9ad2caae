"""Core ML programs of the tiny networks, each captured once by a process of the test run."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.models.weights.values import Weights, fp32_value
from coreml_sd.targets.coreml import capture as capturing
from coreml_sd.targets.coreml import passes
from tests.helpers.network_digest import settings_of

_KEPT = 12  # programs


class KeptPrograms:
    """`capture` and `run_passes`, but for a program that was made before.

    Capturing takes most of a conversion. A program has the values of norms, biases and buffers in
    it and not those of the layers' weights: it is the same where modules, their settings, those
    values, the shapes and what was asked for are.
    """

    def __init__(self) -> None:
        self.finished: dict[str, tuple[Any, Any]] = {}
        self.pending: dict[int, str] = {}
        self.reused = 0
        self._capture, self._run_passes = capturing.capture, passes.run_passes

    def capture(
        self,
        network: StepSequence,
        weights: Weights,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        **asked: Any,
    ) -> tuple[Any, Any]:
        key = _digest(network, weights, repr((list(inputs), list(outputs), asked)))
        if key in self.finished:
            self.reused += 1
            return self.finished[key]
        program, stand_ins = self._capture(network, weights, inputs, outputs, **asked)
        self.pending[id(program)] = key
        return program, stand_ins

    def run_passes(self, program: Any, stand_ins: Any, precision: Any) -> None:
        key = self.pending.pop(id(program), None)
        if key is None:
            return  # it was finished before
        self._run_passes(program, stand_ins, precision)
        while len(self.finished) >= _KEPT:
            del self.finished[next(iter(self.finished))]
        self.finished[key] = (program, stand_ins)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Meanwhile conversions take what was captured before."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(capturing, "capture", self.capture)
            patch.setattr(passes, "run_passes", self.run_passes)
            yield


def _digest(network: StepSequence, weights: Weights, asked: str) -> str:
    from coreml_sd.mobile.layer_weights import layer_weights

    digest = hashlib.sha256(f"{asked}{network.inputs}{network.outputs}".encode())
    digest.update(settings_of(network).encode())
    layers = {name for name, weight in layer_weights(network).items() if weight.numel() >= 10}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        if name not in layers:
            digest.update(np.ascontiguousarray(fp32_value(weights, name)).tobytes())
    for name, buffer in network.named_buffers(remove_duplicate=False):
        digest.update(f"{name}{buffer.dtype}{tuple(buffer.shape)}".encode())
        digest.update(buffer.contiguous().numpy().tobytes())
    return digest.hexdigest()
