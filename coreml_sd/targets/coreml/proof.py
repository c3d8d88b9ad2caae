"""Parity of .mlpackage files, executed by the evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coreml_sd.compress.palettization import Palettization
from coreml_sd.compress.weight_streaming import in_fp16
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import Arrays, ComponentSpec
from coreml_sd.parity.checks import (
    GATE_FILE,
    GATE_FP16,
    GATE_MOBILE,
    SEEDS,
    Check,
    ComponentParity,
    decibels,
    run_mobile,
)
from coreml_sd.parity.reference import Reference, named
from coreml_sd.processes.memory import give_back
from coreml_sd.runtimes.chain import Chain
from coreml_sd.runtimes.mil import MilNetwork, Mode
from coreml_sd.runtimes.mil.large_constants import KEPT_BYTES
from coreml_sd.runtimes.mil.trace import LIMIT
from coreml_sd.runtimes.torch_source import SourceNetwork


def component_parity(
    component: ComponentSpec,
    source: Reference,
    mobile: StepSequence,
    palettization: Palettization | None,
    paths: Sequence[Path],
    own: Reference | None = None,
) -> ComponentParity:
    """Execute the files of a component (chunks chained) and compare with torch.

    Every figure is the worst over the outputs and the fixed inputs of `SEEDS`.

    Args:
        source: the network as it was read here. `mobile` shares its weights.
        palettization: the solver's decision; the reference carries the same weights.
        paths: the component's files in running order.
        own: the network as diffusers' own pipeline opens it, where it does.
    """
    inputs = [component.sample_inputs(seed) for seed in SEEDS]
    exact, mobile_outputs, same_weights = _expected(
        component, source, mobile, palettization, own, inputs
    )
    in_fp32, _ = _evaluate(component, paths, "fp32", inputs)
    in_fp16, traces = _evaluate(component, paths, "fp16", inputs)
    stored = f"{palettization.spec.bits}-bit" if palettization else "fp16-rounded"
    torch = f"against torch, {stored} weights"
    to_source = None if palettization else GATE_FP16
    checks = (
        decibels(f"mobile form against {named(own)}", exact, mobile_outputs, GATE_MOBILE),
        decibels(f"file in fp32 {torch}", same_weights, in_fp32, GATE_FILE),
        decibels(f"file in fp16 {torch}", same_weights, in_fp16, GATE_FP16),
        decibels("fp16 against the source", exact, in_fp16, to_source),
        peak_check(traces),
    )
    return ComponentParity(component.name, "coreml", MilNetwork.LABEL, checks[2].name, checks)


def _expected(
    component: ComponentSpec,
    source: Reference,
    mobile: StepSequence,
    palettization: Palettization | None,
    own: Reference | None,
    inputs: Sequence[Arrays],
) -> tuple[list[Arrays], list[Arrays], list[Arrays]]:
    """Outputs of the source, of the mobile form, and of the source with the weights of the file.

    What held weights for them is gone before a file is executed.
    """
    exact = (own or source).outputs(component, inputs)
    published = SourceNetwork(component, source.network)
    held = source.weights
    with held.given_to(mobile):
        mobile_outputs = [run_mobile(component, mobile, given) for given in inputs]
    values = palettization.decoded if palettization else in_fp16
    with held.given_to(published.module, mobile, values):
        same_weights = [published.run(given) for given in inputs]
    return exact, mobile_outputs, same_weights


def _evaluate(
    component: ComponentSpec, paths: Sequence[Path], mode: Mode, inputs: Sequence[Arrays]
) -> tuple[list[Arrays], list[MilNetwork]]:
    kept = KEPT_BYTES // len(paths)  # of decoded weights, for all files together
    networks = [
        MilNetwork(path, mode=mode, record=mode == "fp16", kept_bytes=kept) for path in paths
    ]
    chain = Chain(component.name, networks)
    outputs = [chain.run(given) for given in inputs]
    chain.close()
    give_back()
    return outputs, networks


def peak_check(networks: Sequence[MilNetwork]) -> Check:
    """Largest magnitude of any intermediate of the last run, and the op that left fp16."""
    traces = [network.trace for network in networks if network.trace is not None]
    peak = max(trace.peak for trace in traces)
    unsafe = next((t.first_unsafe for t in traces if t.first_unsafe is not None), None)
    detail = f"{unsafe.op} ({unsafe.type}) after {unsafe.layer}" if unsafe else ""
    return Check("largest intermediate in fp16", peak, "", LIMIT, unsafe is None, detail)
