"""Export one network in its mobile form as a .tflite with one named signature."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.targets.tflite.exported import Exported
from coreml_sd.targets.tflite.placeholders import standing_in
from coreml_sd.targets.tflite.unread_weights import UnreadWeights
from coreml_sd.upstream.litert_torch_constants import module_of
from coreml_sd.upstream.litert_torch_faults import contiguous_weights
from coreml_sd.upstream.noise import quiet_native, quieten
from coreml_sd.upstream.torch_export_shortcuts import lean_export


def export_tflite(
    path: Path,
    signature: str,
    network: StepSequence,
    inputs: Sequence[TensorSpec],
    unread: UnreadWeights | None = None,
) -> None:
    """Export one network to a file in fp32, its weights in memory unless `unread`; see `export`."""
    export(path.name, signature, network, inputs, unread or UnreadWeights()).write(path)


def export(
    file_name: str,
    signature: str,
    network: StepSequence,
    inputs: Sequence[TensorSpec],
    unread: UnreadWeights,
) -> Exported:
    """Trace and convert one network; weights and arithmetic are fp32.

    Args:
        file_name: what an error is about.
        signature: name of the file's only signature; its tensors are the network's.
        inputs: shapes of the network's inputs, in order. Token ids are int32 here, everything
            else is float32.
        unread: how to read the weights that are not in memory.

    Raises:
        CoremlSDError: the conversion fails.
        UserError: a weight holds NaN or inf.
    """
    quieten()
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    examples = {spec.name: _example(spec) for spec in inputs}
    with quiet_native() as noise, contiguous_weights(network):
        try:
            import litert_torch

            with lean_export(), standing_in(unread) as stand_ins:
                model = litert_torch.signature(
                    signature, _Named(network).eval(), sample_kwargs=examples
                ).convert(lightweight_conversion=True)
                stand_ins.leave_out(module_of(model))
                return Exported(model.model_content(), stand_ins)
        except UserError:
            raise
        except Exception as error:  # the converter raises many kinds, its own included
            reason = str(error).strip() or noise()
            raise CoremlSDError(f"{file_name}: litert-torch could not convert it: {reason}") from (
                error
            )


def is_token_ids(spec: TensorSpec) -> bool:
    """Whether an input holds token ids, which stay integers on Android."""
    return spec.name == "input_ids"


def _example(spec: TensorSpec) -> torch.Tensor:
    dtype = torch.int32 if is_token_ids(spec) else torch.float32
    return torch.zeros(spec.shape, dtype=dtype)


class _Named(nn.Module):
    """The network with named inputs and outputs, and its steps as direct children, whose names the
    exporter writes into the names of tensors."""

    def __init__(self, network: StepSequence) -> None:
        super().__init__()
        self.network = [network]  # hidden from the registry: each step is registered once, below
        for step in network.steps:
            self.add_module(step.name.replace(".", "_"), step.module)

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        (network,) = self.network
        results = network(*(inputs[name] for name in network.inputs))
        return dict(zip(network.outputs, results, strict=True))
