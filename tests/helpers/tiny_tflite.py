"""Tiny networks as .tflite files, each exported once for all workers of a test run."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import nn

from coreml_sd.config import ConversionConfig
from coreml_sd.mobile.steps import StepSequence
from coreml_sd.models.component import ComponentSpec, TensorSpec
from coreml_sd.models.open_model import open_model
from coreml_sd.targets.tflite import export
from coreml_sd.targets.tflite.profiles import Quantization, profile
from coreml_sd.targets.tflite.quantize import quantize_file
from coreml_sd.targets.tflite.rewrites import AndroidForm, android_form
from coreml_sd.targets.tflite.unread_weights import Read, UnreadWeights
from tests.helpers.network_digest import settings_of
from tests.helpers.shared_folder import SharedFolder

_EXPORT = export.export


@dataclasses.dataclass(frozen=True)
class ExportedFile:
    """What was exported, as a file in fp32."""

    unquantized: Path

    def write(self, path: Path) -> None:
        shutil.copyfile(self.unquantized, path)

    def quantizer(self) -> Any:
        from ai_edge_quantizer import quantizer

        return quantizer.Quantizer(str(self.unquantized))


class MemoizedExporter:
    """`export`, but of a network that was exported before it gives the file.

    Exporting the tiny UNet takes 20 s and most tests look at what comes after. Two networks are
    the same where modules, their settings, weights and the shapes of their inputs are.
    """

    def __init__(self, folder: SharedFolder) -> None:
        self.folder = folder

    def __call__(
        self,
        file_name: str,
        signature: str,
        network: StepSequence,
        inputs: Sequence[TensorSpec],
        unread: UnreadWeights,
    ) -> ExportedFile:
        def make(target: Path) -> None:
            _EXPORT(file_name, signature, network, inputs, unread).write(target)

        name = f"{signature}-{_digest(signature, network, inputs, unread.read)}.tflite"
        return ExportedFile(self.folder.once(name, make))

    def file(
        self, path: Path, signature: str, network: StepSequence, inputs: Sequence[TensorSpec]
    ) -> None:
        """Write a network whose weights are in memory."""
        self(path.name, signature, network, inputs, UnreadWeights()).write(path)


@dataclasses.dataclass(frozen=True)
class TinyFile:
    """One network of a tiny model in its Android form, and its file before quantization."""

    component: ComponentSpec
    source: nn.Module
    form: AndroidForm
    unquantized: Path

    def quantized(self, path: Path, quantization: Quantization) -> Path:
        """Its file with quantized weights."""
        source = shutil.copyfile(self.unquantized, path.with_suffix(".source"))
        quantize_file(source, path, quantization)
        source.unlink(missing_ok=True)
        return path


class TinyFiles:
    """Files of the tiny models by folder, component and profile."""

    def __init__(self, folder: SharedFolder) -> None:
        self.folder = folder
        self.exporter = MemoizedExporter(folder)

    @functools.cache  # noqa: B019 -- one instance lives as long as the session
    def __call__(self, model: Path, component: str, profile_name: str = "gpu") -> TinyFile:
        config = ConversionConfig(model=str(model), targets=["tflite"])
        spec = open_model(config).component(component)
        source = spec.load()
        form = android_form(spec, source, profile(profile_name))
        path = self.folder.path / f"{model.name}-{component}-{profile_name}.fp32"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                self.exporter.file(path, component, form.network, spec.inputs)
        return TinyFile(spec, source, form, path)

    @contextlib.contextmanager
    def exporting(self) -> Iterator[None]:
        """Meanwhile a conversion copies what was exported in this run before."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export, "export", self.exporter)
            yield

    def bundle(self, name: str, model: Path, *, verify: bool = True, **knobs: Any) -> Path:
        """A model's bundle, converted once in this run."""
        with self.exporting():
            return self.folder.bundle(name, model, verify=verify, **knobs)


def exported(folder: Path, component: str, path: Path) -> Path:
    """A component in fp32 for the profile `gpu`, exported anew each time."""
    spec = open_model(ConversionConfig(model=str(folder), targets=["tflite"])).component(component)
    form = android_form(spec, spec.load(), profile("gpu"))
    _EXPORT(path.name, spec.name, form.network, spec.inputs, UnreadWeights()).write(path)
    return path


def scales(path: Path, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scales and zero points of one tensor of the main graph, read by the schema alone."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    stored = model.Subgraphs(0).Tensors(index).Quantization()
    return np.array(stored.ScaleAsNumpy()), np.array(stored.ZeroPointAsNumpy())


def _digest(
    signature: str,
    network: StepSequence,
    inputs: Sequence[TensorSpec],
    read: Callable[[torch.Tensor], Read],
) -> str:
    digest = hashlib.sha256(
        repr((signature, network.inputs, network.outputs, list(inputs))).encode()
    )
    digest.update(settings_of(network, gelu="exact").encode())  # the modules say it again
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        digest.update(repr((name, tensor.shape)).encode())
        digest.update(read(tensor)().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
