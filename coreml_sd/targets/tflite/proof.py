"""Parity of .tflite files, executed by LiteRT on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from coreml_sd.compress.weight_streaming import Values
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import Arrays, ComponentSpec
from coreml_sd.parity.checks import (
    GATE_DYNAMIC,
    GATE_FILE,
    GATE_MOBILE,
    GATE_TFLITE,
    SEEDS,
    Check,
    ComponentParity,
    decibels,
    run_mobile,
)
from coreml_sd.parity.reference import Reference, named
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.runtimes.litert.network import LiteRTNetwork, label
from coreml_sd.runtimes.torch_source import SourceNetwork
from coreml_sd.targets.tflite.profiles import Gelu, Quantization
from coreml_sd.targets.tflite.quantize import int8_weight, stores_lookups_small
from coreml_sd.upstream.torch_gelu import other_gelu

_READS_INT8 = ("EMBEDDING_LOOKUP", "DEQUANTIZE")  # ops that turn int8 to float by themselves


def component_parity(
    component: ComponentSpec,
    source: Reference,
    mobile: StepSequence,
    path: Path,
    quantization: Quantization,
    gelu: Gelu,
    unquantized: Path | None = None,
    own: Reference | None = None,
    scratch: Path | None = None,
) -> ComponentParity:
    """Execute a component's file and compare with torch.

    Args:
        source: the network as it was read here. `mobile` shares its weights.
        quantization: of the weights in the file; the reference carries the same.
        unquantized: the file before quantization, checked too where it is at hand.
        own: the network as diffusers' own pipeline opens it, where it does.
        scratch: a folder for what would else be in memory: twice the weights in fp32, at most.
    """
    inputs = [component.sample_inputs(seed) for seed in SEEDS]
    expected = _expected(component, source, mobile, quantization, gelu, own, inputs)
    in_file, promised = _execute(path, inputs, scratch), mobile.outputs
    checks = _mobile_checks(expected, gelu, named(own), promised)
    if unquantized is not None:
        before = _execute(unquantized, inputs, scratch)
        name = "file before quantization against torch"
        checks.append(decibels(name, expected.with_gelu, before, GATE_TFLITE, promised))
    gate = GATE_DYNAMIC if quantization == "dynamic-int8" else GATE_FILE
    name = f"file against torch, {_weights(quantization)} weights"
    checks.append(decibels(name, expected.same_weights, in_file, gate, promised))
    checks.append(decibels("file against the source", expected.exact, in_file, None, promised))
    if quantization != "dynamic-int8":
        checks.append(weight_only(path))
    return ComponentParity(component.name, "tflite", label("cpu"), name, tuple(checks))


def weight_only(path: Path) -> Check:
    """int8 weights must reach their op through DEQUANTIZE: a hybrid op would round activations to
    int8 on the CPU and not on the GPU.

    Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.5).
    """
    hybrid = [
        op
        for graph in TFLiteFile(path).graphs
        for op in graph.ops
        if op.kind not in _READS_INT8
        and any(t is not None and t.is_constant and t.dtype == "int8" for t in op.inputs)
    ]
    detail = f"{hybrid[0].kind} in {hybrid[0].layer}" if hybrid else ""
    return Check("ops that round activations", len(hybrid), "", 1, not hybrid, detail)


@dataclass(frozen=True)
class _Expected:
    """Outputs of torch: of the source, of the mobile form, of the source with the file's GELU
    (`exact` itself where that is the source's), and with the file's weights too."""

    exact: list[Arrays]
    mobile: list[Arrays]
    with_gelu: list[Arrays]
    same_weights: list[Arrays]


def _expected(
    component: ComponentSpec,
    source: Reference,
    mobile: StepSequence,
    quantization: Quantization,
    gelu: Gelu,
    own: Reference | None,
    inputs: Sequence[Arrays],
) -> _Expected:
    """What held weights for these is gone before a file is executed."""
    true = own or source
    exact = with_gelu = true.outputs(component, inputs)
    if gelu != "exact":
        with _gelu(true.network, gelu):
            with_gelu = true.outputs(component, inputs)
    published = SourceNetwork(component, source.network)
    held = source.weights
    with held.given_to(mobile):
        outputs = [run_mobile(component, mobile, given) for given in inputs]
    stored = _stored(mobile, quantization)
    with _gelu(source.network, gelu), held.given_to(published.module, mobile, stored):
        same_weights = [published.run(given) for given in inputs]
    return _Expected(exact, outputs, with_gelu, same_weights)


def _mobile_checks(
    expected: _Expected, gelu: Gelu, source: str, promised: Collection[str]
) -> list[Check]:
    if gelu == "exact":
        name = f"mobile form against {source}"
        return [decibels(name, expected.exact, expected.mobile, GATE_MOBILE, promised)]
    name = f"mobile form against {source} with tanh GELU"
    return [
        decibels(name, expected.with_gelu, expected.mobile, GATE_MOBILE, promised),
        decibels("tanh GELU against the source", expected.exact, expected.with_gelu, None),
    ]


def _execute(path: Path, inputs: Sequence[Arrays], scratch: Path | None) -> list[Arrays]:
    network = LiteRTNetwork(path, scratch=scratch)
    results = [network.run(given) for given in inputs]
    network.close()
    return [{name: array.astype(np.float32) for name, array in r.items()} for r in results]


def _weights(quantization: Quantization) -> str:
    return {"fp32": "the same", "fp16": "fp16-rounded"}.get(quantization, "int8-rounded")


def _stored(mobile: nn.Module, quantization: Quantization) -> Values:
    """The weights as the file stores them: convolutions and, with int8, looked-up embeddings."""
    kinds = (nn.Conv2d, nn.Embedding) if stores_lookups_small(quantization) else (nn.Conv2d,)
    rounded = {
        f"{path}.weight"
        for path, layer in mobile.named_modules()
        if isinstance(layer, kinds) and not path.endswith("position_embedding")
    }

    def stored(name: str, parameter: torch.Tensor) -> torch.Tensor:
        if quantization == "fp32" or name not in rounded:
            return parameter
        if quantization == "fp16":
            return parameter.half()
        return torch.from_numpy(int8_weight(parameter.numpy()))

    return stored


@contextlib.contextmanager
def _gelu(network: nn.Module, gelu: Gelu) -> Iterator[None]:
    """The source with the tanh formula in every GELU where the file has its clipped form."""
    if gelu == "exact":
        yield
        return

    def by_tanh(exact: Any) -> Any:
        return lambda x, approximate="none": exact(x, approximate="tanh")

    with other_gelu(network, by_tanh):
        yield
