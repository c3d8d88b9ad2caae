"""Parity: the outputs of saved files against torch, each figure beside its gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from coreml_sd.compress.plan import Palettization, replaced_weights
from coreml_sd.metrics import psnr_db
from coreml_sd.models.component import Arrays, ComponentSpec
from coreml_sd.runtimes.chain import Chain
from coreml_sd.runtimes.mil import MilNetwork, Mode
from coreml_sd.runtimes.mil.trace import LIMIT
from coreml_sd.runtimes.source import SourceNetwork

# Gates in dB (20 log10(max|ref| / rmse)); see docs/parity.md for what each one proves.
GATE_MOBILE = 100.0
GATE_FILE = 85.0
GATE_FP16 = 50.0
SEEDS = (0, 1)


@dataclass(frozen=True)
class Check:
    """One comparison: its figure, the gate it must reach (None: for information), the verdict."""

    name: str
    value: float
    unit: str
    gate_value: float | None
    passed: bool
    detail: str = ""

    @property
    def figure(self) -> str:
        """The value as people read it."""
        if math.isinf(self.value):
            return "identical" if self.value > 0 and self.unit == "dB" else "not finite"
        return f"{self.value:,.1f} {self.unit}".strip()

    @property
    def gate(self) -> str:
        """The gate as people read it."""
        if self.gate_value is None:
            return "for information"
        if math.isinf(self.gate_value):
            return "bit-identical"
        sign = ">=" if self.unit == "dB" else "<"
        return f"{sign} {self.gate_value:,.0f} {self.unit}".strip()

    def to_json(self) -> dict[str, Any]:
        """For the manifest and the JSON report; infinities as text."""
        value = round(self.value, 3) if math.isfinite(self.value) else self.figure
        return {
            "name": self.name,
            "value": value,
            "unit": self.unit,
            "gate": None if self.gate_value is None else self.gate,
            "passed": self.passed,
            "detail": self.detail,
        }


@dataclass(frozen=True)
class ComponentParity:
    """All checks of one component, and how its files were run."""

    component: str
    label: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate was reached."""
        return all(check.passed for check in self.checks)

    def headline(self) -> float:
        """The dB of the file in fp16 against the source, the figure of the closing table."""
        return next(c.value for c in self.checks if c.name == "fp16 against the source")

    def to_json(self) -> dict[str, Any]:
        """For the manifest and the JSON report."""
        return {"label": self.label, "checks": [check.to_json() for check in self.checks]}


def component_parity(
    component: ComponentSpec,
    source: nn.Module,
    mobile: nn.Module,
    palettization: Palettization | None,
    paths: Sequence[Path],
) -> ComponentParity:
    """Execute the files of a component (chunks chained) and compare with torch.

    Every figure is the worst over the outputs and the fixed inputs of `SEEDS`.

    Args:
        source: the network as published. `mobile` shares its weights.
        palettization: the solver's decision; the reference carries the same weights.
        paths: the component's files in running order.
    """
    published = SourceNetwork(component, source)
    inputs = [component.sample_inputs(seed) for seed in SEEDS]
    exact = [published.run(given) for given in inputs]
    mobile_outputs = [_run_mobile(component, mobile, given) for given in inputs]
    with _file_weights(mobile, palettization):
        same_weights = [published.run(given) for given in inputs]
    in_fp32, _ = _evaluate(component, paths, "fp32", inputs)
    in_fp16, traces = _evaluate(component, paths, "fp16", inputs)
    weights = f"{palettization.spec.bits}-bit" if palettization else "fp16-rounded"
    checks = (
        _decibels("mobile form against the source", exact, mobile_outputs, GATE_MOBILE),
        _decibels(
            f"file in fp32 against torch, {weights} weights", same_weights, in_fp32, GATE_FILE
        ),
        _decibels(
            f"file in fp16 against torch, {weights} weights", same_weights, in_fp16, GATE_FP16
        ),
        _decibels("fp16 against the source", exact, in_fp16, None if palettization else GATE_FP16),
        _peak(traces),
    )
    return ComponentParity(component.name, MilNetwork.LABEL, checks)


def _file_weights(
    mobile: nn.Module, palettization: Palettization | None
) -> AbstractContextManager[None]:
    return palettization.applied_to(mobile) if palettization else replaced_weights(mobile)


def _run_mobile(component: ComponentSpec, mobile: nn.Module, given: Arrays) -> Arrays:
    import numpy as np
    import torch

    with torch.inference_mode():
        tensors = [torch.from_numpy(given[s.name].astype(np.float32)) for s in component.inputs]
        results = mobile(*tensors)
    return {s.name: r.numpy() for s, r in zip(component.outputs, results, strict=True)}


def _evaluate(
    component: ComponentSpec, paths: Sequence[Path], mode: Mode, inputs: Sequence[Arrays]
) -> tuple[list[Arrays], list[MilNetwork]]:
    networks = [MilNetwork(path, mode=mode, record=mode == "fp16") for path in paths]
    chain = Chain(component.name, networks)
    return [chain.run(given) for given in inputs], networks


def _decibels(
    name: str, reference: Sequence[Arrays], value: Sequence[Arrays], gate: float | None
) -> Check:
    worst = min(
        psnr_db(expected[key], actual[key])
        for expected, actual in zip(reference, value, strict=True)
        for key in expected
    )
    return Check(name, worst, "dB", gate, gate is None or worst >= gate)


def _peak(networks: Sequence[MilNetwork]) -> Check:
    """Largest magnitude of any intermediate of the last run, and the op that left fp16."""
    traces = [network.trace for network in networks if network.trace is not None]
    peak = max(trace.peak for trace in traces)
    unsafe = next((t.first_unsafe for t in traces if t.first_unsafe is not None), None)
    detail = f"{unsafe.op} ({unsafe.type}) after {unsafe.layer}" if unsafe else ""
    return Check("largest intermediate in fp16", peak, "", LIMIT, unsafe is None, detail)
