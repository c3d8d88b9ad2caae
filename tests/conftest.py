"""Tiny Stable Diffusion folders with random weights, made once per test session."""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

if TYPE_CHECKING:
    from tests.tiny_tflite import SharedFolder, TinyFiles

WIDTH = 32


def write_tokenizer(folder: Path) -> int:
    """A CLIP-format vocabulary of single bytes and two merges; returns its size."""
    folder.mkdir(parents=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    merges = ["c a", "ca t</w>"]
    tokens = [*symbols, *(f"{s}</w>" for s in symbols), "ca", "cat</w>"]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}), "utf-8")
    return len(tokens)


def randomize(module: torch.nn.Module) -> torch.nn.Module:
    """Random norms too: fresh ones (1 and 0) would hide a swapped weight."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module


def write_pipeline(folder: Path, *, second: bool = False) -> Path:
    """SD 1.x-like, or SD 2.x-like (`second`): linear projections, heads per level, v, gelu."""
    torch.manual_seed(0)
    vocabulary = write_tokenizer(folder / "tokenizer")
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            hidden_act="gelu" if second else "quick_gelu",
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=[2, 4] if second else 4,
        use_linear_projection=second,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=16,
    )
    for name, module in (("text_encoder", text), ("unet", unet), ("vae", vae)):
        randomize(module).save_pretrained(folder / name)
    scheduler = {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction" if second else "epsilon",
        "clip_sample": False,
        "steps_offset": 1,
    }
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler), "utf-8")
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1"}
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder


@pytest.fixture(scope="session")
def sd1_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("models") / "tiny-sd1")


@pytest.fixture(scope="session")
def sd2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("models") / "tiny-sd2", second=True)


@pytest.fixture(scope="session")
def xl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_xl import write_xl_pipeline

    return write_xl_pipeline(tmp_path_factory.mktemp("models") / "tiny-xl")


@pytest.fixture(scope="session")
def xl_bundle(xl_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 6-bit bundle of the tiny SDXL model, chunks left to the converter."""
    from coreml_sd.config import ConversionConfig
    from coreml_sd.convert import convert

    path = tmp_path_factory.mktemp("bundles") / "tiny-xl.bundle"
    convert(ConversionConfig(model=str(xl_folder), palettize=6, chunks="auto"), path)
    return path


@pytest.fixture(scope="session")
def sd1_bundle(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 6-bit bundle of the tiny SD 1.x model with two UNet chunks."""
    from coreml_sd.config import ConversionConfig
    from coreml_sd.convert import convert

    path = tmp_path_factory.mktemp("bundles") / "tiny.bundle"
    config = ConversionConfig(model=str(sd1_folder), palettize=6, chunks="2")
    convert(config, path)
    return path


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> "SharedFolder":
    """A folder of this test run that all workers see."""
    from tests.tiny_tflite import SharedFolder

    base = tmp_path_factory.getbasetemp()
    return SharedFolder((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared")


@pytest.fixture(scope="session")
def tiny_files(shared_folder: "SharedFolder") -> "TinyFiles":
    """Files of the tiny models before quantization, by folder, component and profile."""
    pytest.importorskip("litert_torch", reason="the extra `android` is not installed")
    from tests.tiny_tflite import TinyFiles

    return TinyFiles(shared_folder)


@pytest.fixture
def quick_export(tiny_files: "TinyFiles", monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion copies what was exported in this run before."""
    from coreml_sd.targets.tflite import export

    monkeypatch.setattr(export, "export_tflite", tiny_files.exporter)


@pytest.fixture(scope="session")
def both_bundle(shared_folder: "SharedFolder", tiny_files: "TinyFiles", sd1_folder: Path) -> Path:
    """The tiny SD 1.x model for Core ML with 6-bit palettes and for Android, one conversion."""
    from coreml_sd.config import ConversionConfig
    from coreml_sd.convert import convert
    from coreml_sd.targets.tflite import export

    def make(path: Path) -> None:
        config = ConversionConfig(model=str(sd1_folder), targets=["coreml", "tflite"], palettize=6)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export, "export_tflite", tiny_files.exporter)
            convert(config, path)

    return shared_folder.once("both.bundle", make)


@pytest.fixture(scope="session")
def xl_tflite_bundle(
    shared_folder: "SharedFolder", tiny_files: "TinyFiles", xl_folder: Path
) -> Path:
    """The tiny SDXL model for Android at fp16."""
    from coreml_sd.config import ConversionConfig
    from coreml_sd.convert import convert
    from coreml_sd.targets.tflite import export

    def make(path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export, "export_tflite", tiny_files.exporter)
            convert(ConversionConfig(model=str(xl_folder), targets=["tflite"]), path)

    return shared_folder.once("xl-tflite.bundle", make)


@pytest.fixture(scope="session")
def android_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Bundles of the demo model for Android without weights: what an app reads is all there.

    Everything comes from the converter's own descriptions, but the .tflite files are empty.
    """
    from coreml_sd.bundle import write_manifest
    from coreml_sd.config import ConversionConfig
    from coreml_sd.models.open_model import open_model
    from coreml_sd.models.tokenizer_files import write_tokenizer_files

    @functools.cache
    def make(batch: int) -> Path:
        path = tmp_path_factory.mktemp(f"android-batch-{batch}")
        model = open_model(ConversionConfig(model="demo", batch=batch))
        components = {}
        for component in model.components:
            inputs, outputs = (
                [spec.name for spec in s] for s in (component.inputs, component.outputs)
            )
            files = [
                {"path": f"{component.file_name}.{ending}", "target": target}
                for ending, target in (("mlpackage", "coreml"), ("tflite", "tflite"))
            ]
            (path / files[1]["path"]).touch()
            files = [{**entry, "inputs": inputs, "outputs": outputs} for entry in files]
            components[component.name] = {"files": files}
        write_tokenizer_files(model.folder, path)
        facts = model.facts.to_dict()
        write_manifest(
            path, {"pipeline": facts, "components": components, "config": {}, "model": {}}
        )
        return path

    return make
