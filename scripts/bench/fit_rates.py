"""Rates of a conversion's work, fitted to measured conversions."""

from __future__ import annotations

import os
import platform
import time
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.plan import Plan, plan_conversion
from coreml_sd.conversion.prediction.disk import target_bytes
from coreml_sd.conversion.prediction.layers import NetworkSize, network_size
from coreml_sd.conversion.prediction.predict import predict, speed_of
from coreml_sd.conversion.prediction.probe import slowness
from coreml_sd.conversion.prediction.rates import Rates
from coreml_sd.conversion.prediction.work import Work, kind_of_stage, split_title
from coreml_sd.models.component import ComponentSpec

# Which measures each kind of work goes by.
_TIME = {
    "start": ("each",),
    "load": ("first", "android", "each", "layers", "parameters"),
    "preview": ("each", "parameters", "macs"),
    "coreml": ("first", "each", "layers", "parameters", "palettes"),
    "coreml-verify": ("first", "layers", "parameters", "macs"),
    "tflite": ("first", "each", "layers", "parameters"),
    "tflite-fp32": ("first", "each", "layers", "parameters"),
    "tflite-verify": ("first", "each", "layers", "parameters", "macs"),
    "step": ("each",),
    "finish": ("each", "parameters"),
}
_MEMORY = ("each", "parameters", "activation")
_MEMORY_TOO = {"tflite-verify": ("unpacked",)}
# What a rate can be at most: small models alone say nothing of what large ones take.
_MOST_SECONDS = {"parameters": 300.0, "palettes": 300.0, "macs": 150.0}
_MOST_BYTES = {"parameters": 9e9, "unpacked": 4e9, "activation": 32e9}
_AFTER_NAME = ".C"  # of a component in the names of its files: an ending, or Chunk1
_NOTHING = Rates({}, {}, {}, {}, {"bytes": 0, "bytes_per_palette": 0}, {})


@dataclass
class _Observed:
    """One piece of work as it was measured; `whole`: seconds of the conversion that it was part
    of, `probe`: how fast the machine was then."""

    work: Work
    seconds: float
    memory: float
    whole: float
    probe: dict[str, float]


def fit_rates(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Fit everything in `rates.json` (see `coreml_sd.conversion.prediction.rates`) to measured
    cases of `scripts/check_predictions.py`."""
    reference = {
        name: float(np.median([case["probe"][name] for case in cases]))
        for name in cases[0]["probe"]
    }
    by_kind: dict[str, list[_Observed]] = defaultdict(list)
    for case in cases:
        for observed in _observed(case):
            by_kind[observed.work.kind].append(observed)
    return {
        "probe": reference,
        "seconds": {kind: _fit_seconds(kind, rows, reference) for kind, rows in by_kind.items()},
        "memory": {kind: _fit_memory(kind, rows) for kind, rows in by_kind.items()},
        **_fit_files(cases),
        "measured": {
            "date": time.strftime("%Y-%m-%d"),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            **{name: version(name) for name in ("torch", "coremltools")},
        },
    }


def _observed(case: dict[str, Any]) -> list[_Observed]:
    """A case's pieces of work: each lasts until the next one of the same process begins."""
    plan = plan_conversion(ConversionConfig(**case["config"]))
    expected = predict(plan, case["verify"], measured={}, known=_NOTHING)
    begins, ends = _begins_and_ends(case, plan)
    finished = case["started"] + case["seconds"]
    result = []

    def observe(work: Work, number: int, start: float, stop: float) -> None:
        held = _held(case["samples"], number, start, stop)
        result.append(_Observed(work, stop - start, held, case["seconds"], case["probe"]))

    spawned = case["started"]
    for number, share in enumerate(expected.shares):
        starts = [spawned, *(begins[each.work.component, each.work.kind] for each in share[1:])]
        stops = [*starts[1:], ends[share[-1].work.component]]
        for each, start, stop in zip(share, starts, stops, strict=True):
            observe(each.work, number, start, stop)
        if number == 0:  # the others are started when the first has been
            spawned = starts[1]
    for each in expected.final:
        stop = finished if each is expected.final[-1] else begins["", "finish"]
        observe(each.work, 0, begins[each.work.component, each.work.kind], stop)
    return result


def _begins_and_ends(
    case: dict[str, Any], plan: Plan
) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """When each kind of work on a component began, and when the last one on it ended."""
    begins: dict[tuple[str, str], float] = {}
    ends: dict[str, float] = {}
    targets: dict[str, str] = {}  # what each component is being converted to
    for moment, event, title in case["events"]:
        component, stage = split_title(title)
        if event == "end":
            ends[component] = moment
            continue
        if component in ("", "scheduler step"):
            begins.setdefault((component, "step" if component else "finish"), moment)
            continue
        kind = kind_of_stage(stage, targets.get(component, ""))
        if kind in plan.config.targets:
            targets[component] = kind
        if kind == "tflite" and case["verify"]:
            kind = "tflite-fp32"
        begins.setdefault((component, kind), moment)
    return begins, ends


def _held(samples: list[list[float]], number: int, start: float, stop: float) -> float:
    """Most bytes of one process between two moments."""
    held = [s[1 + number] for s in samples if start <= s[0] <= stop and len(s) > 1 + number]
    return max(held, default=0.0)


def _fit_seconds(kind: str, rows: list[_Observed], reference: dict[str, float]) -> dict[str, float]:
    weights = np.array([1 / row.whole for row in rows])  # what counts is the error of the whole
    values = np.array([row.seconds for row in rows])
    measures, machines = _TIME[kind], [slowness(row.probe, reference) for row in rows]
    slower = np.array([[machine[speed_of(m)] for m in measures] for machine in machines])
    return _fit(measures, _sizes(measures, rows) * slower, values, weights, _MOST_SECONDS)


def _fit_memory(kind: str, rows: list[_Observed]) -> dict[str, float]:
    held = [row for row in rows if row.memory]
    weights = np.array([1 / row.memory for row in held])
    measures = (*_MEMORY, *_MEMORY_TOO.get(kind, ()))
    values = np.array([row.memory for row in held])
    return _fit(measures, _sizes(measures, held), values, weights, _MOST_BYTES)


def _sizes(measures: tuple[str, ...], rows: list[_Observed]) -> NDArray[np.float64]:
    """Each row's size in each measure."""
    return np.array([[row.work.size.get(m, 0.0) for m in measures] for row in rows])


def _fit(
    measures: tuple[str, ...],
    table: NDArray[np.float64],
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    most: dict[str, float],
) -> dict[str, float]:
    """Rates from zero to `most` with the least error, each row's by its weight."""
    from scipy.optimize import lsq_linear

    scale = np.maximum(table.max(axis=0), 1e-12)
    limits = np.array([most.get(m, np.inf) for m in measures]) * scale
    found = lsq_linear(table / scale * weights[:, None], values * weights, (0.0, limits)).x
    rates = zip(measures, found / scale, strict=True)
    return {measure: float(f"{rate:.4g}") for measure, rate in rates if rate > 0}


def _fit_files(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Bytes of programs for each layer, and of the manifest."""
    programs: dict[str, dict[str, list[float]]] = {"coreml": {}, "tflite": {}}
    manifests, recorded = [], []
    for case in cases:
        plan = plan_conversion(ConversionConfig(**case["config"]))
        sizes = {each.name: network_size(plan, each) for each in plan.components}
        layers = sum(len(size.layers) for size in sizes.values())
        manifests.append(float(case["files"]["manifest.json"]))
        recorded.append([1.0, layers if plan.palettes else 0.0])
        for component in plan.components:
            size = sizes[component.name]
            for target in plan.config.targets:
                held = _program(case, plan, target, component, size)
                programs[target].setdefault(component.name, []).append(held / len(size.layers))
    (whole, each), *_ = np.linalg.lstsq(np.array(recorded), np.array(manifests), rcond=None)
    return {
        "program": {
            target: {name: round(float(np.median(held))) for name, held in named.items()}
            for target, named in programs.items()
        },
        "manifest": {"bytes": round(whole), "bytes_per_palette": round(each)},
    }


def _program(
    case: dict[str, Any], plan: Plan, target: str, component: ComponentSpec, size: NetworkSize
) -> float:
    """Bytes of a component's files beside its weights."""
    files = [
        count
        for name, count in case["files"].items()
        if name.startswith(component.file_name)
        and name[len(component.file_name)] in _AFTER_NAME
        and (".tflite" in name) == (target == "tflite")
    ]
    return sum(files) - target_bytes(plan, target, component.name, size)
