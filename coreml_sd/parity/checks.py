"""Checks: one comparison each, with its figure and its gate, for every target alike."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from coreml_sd.metrics import psnr_db
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import Arrays, ComponentSpec
from coreml_sd.runtimes.base import Array

# Gates in dB (20 log10(max|ref| / rmse)); see docs/parity.md for what each one proves.
GATE_MOBILE = 100.0
GATE_FILE = 85.0
GATE_FP16 = 50.0
GATE_TFLITE = 100.0
GATE_DYNAMIC = 25.0
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
        return figure(self.value, self.unit)

    @property
    def gate(self) -> str:
        """The gate as people read it."""
        if self.gate_value is None:
            return "for information"
        if math.isinf(self.gate_value):
            return "bit-identical"
        sign = ">=" if self.unit == "dB" else "<"
        return f"{sign} {self.gate_value:,.0f} {self.unit}".strip()

    @property
    def shortfall(self) -> str:
        """How a gate that was not reached is told."""
        return f"{self.name} is {self.figure} (gate {self.gate})"

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
    """All checks of one component's files for one target, and how they were run. `headline` names
    the check that a closing table shows: the file against torch with the file's own weights."""

    component: str
    target: str
    label: str
    headline: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate was reached, and there was one."""
        gated = any(check.gate_value is not None for check in self.checks)
        return gated and all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """For the manifest and the JSON report."""
        return {
            "label": self.label,
            "headline": self.headline,
            "checks": [check.to_json() for check in self.checks],
        }


def figure(value: float | str, unit: str) -> str:
    """A figure as people read it; one of a manifest may be text already."""
    if isinstance(value, str):
        return value
    if math.isinf(value):
        return "identical" if value > 0 and unit == "dB" else "not finite"
    decimals = 0 if not unit and float(value).is_integer() else 1
    return f"{value:,.{decimals}f} {unit}".strip()


def run_mobile(component: ComponentSpec, mobile: StepSequence, given: Arrays) -> Arrays:
    """The mobile form in fp32 on named arrays."""
    with torch.inference_mode():
        tensors = [torch.from_numpy(given[s.name].astype(np.float32)) for s in component.inputs]
        results = mobile(*tensors)
    return {name: r.numpy() for name, r in zip(mobile.outputs, results, strict=True)}


def decibels(
    name: str,
    reference: Sequence[Arrays],
    value: Sequence[Arrays],
    gate: float | None,
    outputs: Collection[str] | None = None,
) -> Check:
    """The worst dB over all inputs and all outputs.

    Args:
        outputs: what `value` must have; all of the reference's where not given. An output that is
            missing, or that the reference does not know, or of another shape, is -inf.
    """
    if not reference or len(reference) != len(value):
        raise ValueError(f"{name}: {len(value)} results for {len(reference)} inputs")
    worst, detail = math.inf, ""
    for expected, actual in zip(reference, value, strict=True):
        promised = expected.keys() if outputs is None else outputs
        for key in sorted({*promised, *actual}):
            closeness = _closeness(expected.get(key), actual.get(key))
            if closeness < worst:
                worst, detail = closeness, key
    if gate is None or worst >= gate:
        return Check(name, worst, "dB", gate, True)
    return Check(name, worst, "dB", gate, False, f"output {detail}")


def _closeness(expected: Array | None, actual: Array | None) -> float:
    if expected is None or actual is None or expected.shape != actual.shape:
        return -math.inf
    return psnr_db(expected, actual)


def count_check(name: str, count: int, detail: str = "") -> Check:
    """A check of something that must not occur."""
    return Check(name, count, "", 1, count == 0, detail)
