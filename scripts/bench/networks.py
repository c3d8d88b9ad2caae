"""The UNets that are measured, and their .tflite files, made once and kept in a work folder.

Nothing here imports torch until a folder or a file has to be made; that happens in a process of its
own, so that its memory is given back.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from dataclasses import dataclass
from pathlib import Path

from coreml_sd.config import ConversionConfig
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.find_model import DEMO, DEMO_FOLDER
from coreml_sd.models.open_model import open_model
from coreml_sd.targets.tflite.profiles import Quantization

SD15 = "sd15"  # the shape of Stable Diffusion 1.5, with random weights
_CONTEXT = 768
_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": _CONTEXT,
    "attention_head_dim": 8,
}


@dataclass(frozen=True)
class Measured:
    """A UNet at a batch and a picture size, and the folder its files are kept in."""

    model: str
    batch: int
    size: str | None
    work: Path

    @property
    def component(self) -> ComponentSpec:
        """The UNet as the converter describes it."""
        model = DEMO if self.model == DEMO else str(self.work / self.model)
        config = ConversionConfig(model=model, batch=self.batch, size=self.size)
        return next(part for part in open_model(config).components if part.name == "unet")

    def torch_folder(self, weights: str) -> Path:
        """The UNet as diffusers saves it. bf16 has its own: casting fp32 while loading would
        cost torch a peak of memory that a user can avoid."""
        if weights == "bf16":
            return self.work / f"{self.model}-unet-bf16"
        return (DEMO_FOLDER if self.model == DEMO else self.work / self.model) / "unet"

    def file(self, form: str, weights: str) -> Path:
        """Where the .tflite of a form (`straight` or a profile) with these weights is kept."""
        shape = f"{self.model}-{self.size or 'own'}-batch{self.batch}"
        return self.work / f"{shape}-{form}-{weights}.tflite"


def prepare(measured: Measured, form: str, weights: Quantization) -> Path:
    """The .tflite of a form with these weights; made where it is not there yet."""
    path = measured.file(form, weights)
    if path.exists():
        return path
    if weights == "fp32":
        _in_a_process(_export, measured, form)
    else:
        _in_a_process(_quantize, prepare(measured, form, "fp32"), path, weights)
    return path


def prepare_folders(measured: Measured) -> None:
    """Write the model with random weights (the demo is always there), and its weights in bf16."""
    if measured.model != DEMO and not measured.torch_folder("fp32").exists():
        _in_a_process(_write_folder, measured.work / measured.model)
    if not measured.torch_folder("bf16").exists():
        _in_a_process(_write_bf16, measured)


def _in_a_process(work, *given) -> None:  # type: ignore[no-untyped-def]
    process = multiprocessing.get_context("spawn").Process(target=work, args=given)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__.strip('_')} failed (exit status {process.exitcode})")


def _write_folder(folder: Path) -> None:
    """The demo's folder with another UNet: its other networks are described, never loaded."""
    import torch
    from diffusers import UNet2DConditionModel

    staging = folder.with_suffix(".part")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(DEMO_FOLDER, staging, ignore=shutil.ignore_patterns("*.safetensors", "unet"))
    _change(staging / "text_encoder/config.json", hidden_size=_CONTEXT)
    _change(staging / "vae/config.json", block_out_channels=[128, 256, 512, 512])
    torch.manual_seed(0)
    UNet2DConditionModel(**_UNET).save_pretrained(staging / "unet", max_shard_size="10GB")
    staging.rename(folder)


def _write_bf16(measured: Measured) -> None:
    import torch
    from diffusers import UNet2DConditionModel

    source = UNet2DConditionModel.from_pretrained(measured.torch_folder("fp32"))
    source.to(torch.bfloat16).save_pretrained(measured.torch_folder("bf16"))


def _change(config: Path, **values: object) -> None:
    config.write_text(json.dumps(json.loads(config.read_text()) | values))


def _export(measured: Measured, form: str) -> None:
    from coreml_sd.mobile.steps import Step, StepSequence
    from coreml_sd.targets.tflite.export import export_tflite
    from coreml_sd.targets.tflite.profiles import profile
    from coreml_sd.targets.tflite.rewrites import android_form

    component = measured.component
    source = component.load()
    if form == "straight":
        names = [spec.name for spec in component.inputs]
        results = [spec.name for spec in component.outputs]
        step = Step("unet", component.published(source), tuple(names), tuple(results))
        network = StepSequence([step], names, results)
    else:
        network = android_form(component, source, profile(form)).network
    path = measured.file(form, "fp32")
    export_tflite(path.with_suffix(".part"), component.name, network, component.inputs)
    path.with_suffix(".part").rename(path)


def _quantize(source: Path, destination: Path, weights: Quantization) -> None:
    from coreml_sd.targets.tflite.quantize import CONVOLUTIONS, quantize_file

    # Only the straight form has linear layers.
    ops = (*CONVOLUTIONS, "FULLY_CONNECTED")
    quantize_file(source, destination.with_suffix(".part"), weights, ops)
    destination.with_suffix(".part").rename(destination)
