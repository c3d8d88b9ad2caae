"""A network as diffusers has it, with its linear layers swapped in place, and in mobile form."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from coreml_sd.mobile import MobileOptions
from coreml_sd.mobile.linear_to_conv import linear_to_conv
from coreml_sd.mobile.steps import Step, StepSequence
from coreml_sd.mobile.transformer import MobileTransformer
from coreml_sd.models.component import ComponentSpec, TensorSpec
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.targets.tflite.export import export_tflite
from coreml_sd.targets.tflite.profiles import profile
from coreml_sd.targets.tflite.rewrites import android_form

Form = tuple[str, StepSequence, tuple[TensorSpec, ...]]


class NaiveLinear(nn.Module):
    """A linear layer on `(B, ..., C)` as a convolution between two moves of the channels."""

    def __init__(self, source: nn.Linear) -> None:
        super().__init__()
        self.conv = linear_to_conv(source)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(x.shape[0], -1, x.shape[-1])
        moved = self.conv(rows.transpose(1, 2).unsqueeze(2))
        back: torch.Tensor = moved.squeeze(2).transpose(1, 2)
        return back.reshape(*x.shape[:-1], -1)


class PublishedBlock(nn.Module):
    """diffusers' transformer with the context channels first, as our UNet takes it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        rows = context.squeeze(2).transpose(1, 2)
        result: torch.Tensor = self.block(x, rows, return_dict=False)[0]
        return result


def naive(network: nn.Module) -> nn.Module:
    """Swap every linear layer in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, NaiveLinear(child))
    return network


def whole(network: nn.Module, inputs: tuple[TensorSpec, ...], outputs: list[str]) -> StepSequence:
    """One step that gives its first output only: a text encoder's pooled state is left out, as
    it is on Android."""
    names = [spec.name for spec in inputs]
    return StepSequence([Step("whole", network, tuple(names), tuple(outputs))], names, outputs[:1])


def component_forms(component: ComponentSpec) -> Iterator[Form]:
    outputs = [spec.name for spec in component.outputs]
    published = component.published(component.load())
    yield "published", whole(published, component.inputs, outputs), component.inputs
    yield "naive", whole(naive(published), component.inputs, outputs), component.inputs
    form = android_form(component, component.load(), profile("gpu"))
    yield "mobile", form.network, component.inputs


def block_forms() -> Iterator[Form]:
    """The largest transformer of SD 1.5 with random weights."""
    inputs = (
        TensorSpec("x", (2, 320, 64, 64), "float32", ""),
        TensorSpec("context", (2, 768, 1, 77), "float32", ""),
    )
    source = Transformer2DModel(8, 40, 320, cross_attention_dim=768).eval()
    options = MobileOptions("batched", layout="channels-last", batch=2)
    mobile = MobileTransformer(source, options)  # before the linear layers are swapped
    yield "published", whole(PublishedBlock(source), inputs, ["y"]), inputs
    yield "naive", whole(PublishedBlock(naive(source)), inputs, ["y"]), inputs
    yield "mobile", whole(mobile, inputs, ["y"]), inputs


def counts(network: StepSequence, inputs: tuple[TensorSpec, ...]) -> dict[str, int]:
    """Ops of the exported file by kind, and their number."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        export_tflite(path, "main", network.eval(), inputs)
        ops = TFLiteFile(path).op_counts()
    return {**ops, "all": sum(ops.values())}
