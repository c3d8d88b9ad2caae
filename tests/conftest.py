"""Tiny Stable Diffusion folders with random weights, made once per test session."""

import dataclasses
import functools
import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from tests.helpers.shared_folder import SharedFolder
from tests.helpers.short_unet import SHORT, with_unet
from tests.helpers.tiny_bundle import CONFIG, MODEL
from tests.helpers.tiny_folder import (
    WIDTH,
    randomize,
    text_config,
    tiny_vae,
    write_configs,
    write_tokenizer,
)

if TYPE_CHECKING:
    from tests.helpers.kept_programs import KeptPrograms
    from tests.helpers.tiny_tflite import TinyFiles

_MANY_OBJECTS = 200_000  # coremltools alone makes as many


def write_pipeline(folder: Path, *, second: bool = False) -> Path:
    """SD 1.x-like, or SD 2.x-like (`second`): linear projections, heads per level, v, gelu."""
    torch.manual_seed(0)
    vocabulary = write_tokenizer(folder / "tokenizer")
    activation = "gelu" if second else "quick_gelu"
    text = CLIPTextModel(text_config(vocabulary, hidden_act=activation))
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
    vae = tiny_vae()
    for name, module in (("text_encoder", text), ("unet", unet), ("vae", vae)):
        randomize(module).save_pretrained(folder / name)
    write_configs(
        folder,
        {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1"},
        _class_name="DDIMScheduler",
        prediction_type="v_prediction" if second else "epsilon",
    )
    return folder


@pytest.fixture(scope="session", autouse=True)
def heed_ctrl_c() -> None:
    """A run in the background ignores Ctrl-C, and so would the commands that tests stop."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> None:
    """The objects of libraries stay, and are not looked through whenever garbage is collected."""
    if len(gc.get_objects()) > _MANY_OBJECTS:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def sd1_folder(shared_folder: SharedFolder) -> Path:
    return shared_folder.once("tiny-sd1", write_pipeline)


@pytest.fixture(scope="session")
def sd2_folder(shared_folder: SharedFolder) -> Path:
    return shared_folder.once("tiny-sd2", functools.partial(write_pipeline, second=True))


@pytest.fixture(scope="session")
def short_folder(shared_folder: SharedFolder, sd1_folder: Path) -> Path:
    """The tiny SD 1.x model with a UNet of one level."""
    return shared_folder.once("short-sd1", lambda path: with_unet(sd1_folder, path, **SHORT))


@pytest.fixture(scope="session")
def short_sd2_folder(shared_folder: SharedFolder, sd2_folder: Path) -> Path:
    """The tiny SD 2.x model with a UNet of one level."""
    return shared_folder.once("short-sd2", lambda path: with_unet(sd2_folder, path, **SHORT))


@pytest.fixture(scope="session")
def xl_folder(shared_folder: SharedFolder) -> Path:
    from tests.helpers.tiny_xl import write_xl_pipeline

    return shared_folder.once("tiny-xl", write_xl_pipeline)


@pytest.fixture(scope="session")
def xl_bundle(shared_folder: SharedFolder, xl_folder: Path) -> Path:
    """A 6-bit bundle of the tiny SDXL model, chunks left to the converter."""
    return shared_folder.bundle("xl", xl_folder, palettize=6)


@pytest.fixture(scope="session")
def xl_fp16_bundle(shared_folder: SharedFolder, xl_folder: Path) -> Path:
    """The tiny SDXL model for Core ML at fp16, without its proof."""
    return shared_folder.bundle("xl-fp16", xl_folder, verify=False)


@pytest.fixture(scope="session")
def sd1_fp16_bundle(shared_folder: SharedFolder, sd1_folder: Path) -> Path:
    """The tiny SD 1.x model for Core ML at fp16, without its proof."""
    return shared_folder.bundle("sd1-fp16", sd1_folder, verify=False)


@pytest.fixture(scope="session")
def md_folder(shared_folder: SharedFolder) -> Path:
    from tests.helpers.tiny_md import write_md_pipeline

    write = functools.partial(write_md_pipeline, layers_per_block=1)
    return shared_folder.once("tiny-md", write)


@pytest.fixture(scope="session")
def md_bundle(tiny_files: "TinyFiles", md_folder: Path) -> Path:
    """The tiny MobileDiffusion model for Core ML with 6-bit palettes and for Android."""
    return tiny_files.bundle("md", md_folder, targets=["coreml", "tflite"], palettize=6)


@pytest.fixture(scope="session")
def sd1_bundle(shared_folder: SharedFolder, sd1_folder: Path) -> Path:
    """A 6-bit bundle of the tiny SD 1.x model with two UNet chunks."""
    return shared_folder.bundle("sd1", sd1_folder, palettize=6, chunks="2")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> SharedFolder:
    """A folder of this run that all workers see, or one that stays, which the variable names."""
    if kept := os.environ.get("COREML_SD_TEST_FOLDER"):
        return SharedFolder(Path(kept))
    base = tmp_path_factory.getbasetemp()
    return SharedFolder((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared")


@pytest.fixture(scope="session")
def tiny_files(shared_folder: SharedFolder) -> "TinyFiles":
    """Files of the tiny models before quantization, by folder, component and profile."""
    pytest.importorskip("litert_torch", reason="the extra `android` is not installed")
    from tests.helpers.tiny_tflite import TinyFiles

    return TinyFiles(shared_folder)


@pytest.fixture
def quick_export(tiny_files: "TinyFiles") -> Iterator[None]:
    """A conversion copies what was exported in this run before."""
    with tiny_files.exporting():
        yield


@pytest.fixture(scope="session")
def kept_programs(shared_folder: SharedFolder) -> "KeptPrograms":
    return shared_folder.programs


@pytest.fixture
def quick_capture(kept_programs: "KeptPrograms") -> Iterator[None]:
    """A conversion takes the Core ML programs that this process has captured before."""
    with kept_programs.in_use():
        yield


@pytest.fixture(scope="session")
def both_bundle(tiny_files: "TinyFiles", sd1_folder: Path) -> Path:
    """The tiny SD 1.x model for Core ML with 6-bit palettes and for Android, one conversion."""
    return tiny_files.bundle("both", sd1_folder, targets=["coreml", "tflite"], palettize=6)


@pytest.fixture(scope="session")
def xl_tflite_bundle(tiny_files: "TinyFiles", xl_folder: Path) -> Path:
    """The tiny SDXL model for Android at fp16."""
    return tiny_files.bundle("xl-tflite", xl_folder, targets=["tflite"])


@pytest.fixture(scope="session")
def lcm_folder(shared_folder: SharedFolder, sd1_folder: Path) -> Path:
    from tests.helpers.tiny_lcm import write_lcm_pipeline

    return shared_folder.once("tiny-lcm", functools.partial(write_lcm_pipeline, sd1_folder))


@pytest.fixture(scope="session")
def few_step_folder(shared_folder: SharedFolder) -> Path:
    from tests.helpers.tiny_md import write_few_step_pipeline

    return shared_folder.once("tiny-few-steps", write_few_step_pipeline)


@pytest.fixture(scope="session")
def few_step_bundle(tiny_files: "TinyFiles", few_step_folder: Path) -> Path:
    """A tiny MobileDiffusion with UNets for 1 and 8 steps, for Core ML and Android."""
    components = ["text_encoder", "unet", "unet_1_step", "unet_8_steps", "vae_decoder"]
    return tiny_files.bundle(
        "few-steps", few_step_folder, targets=["coreml", "tflite"], components=components
    )


@pytest.fixture(scope="session")
def demo_bundle(shared_folder: SharedFolder) -> Path:
    """The built-in model for Android: int8 text encoder and UNet, fp16 VAE."""
    pytest.importorskip("litert_torch", reason="the extra `android` is not installed")
    return shared_folder.bundle(
        "demo-tflite", Path("demo"), verify=False, targets=["tflite"], palettize=6
    )


@pytest.fixture(scope="session")
def android_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Bundles of the demo model for Android without weights: what an app reads is all there.

    Everything comes from the converter's own descriptions, but the networks hold none.
    """
    from coreml_sd.bundle import write_manifest
    from coreml_sd.config import ConversionConfig
    from coreml_sd.models.folder.tokenizer_files import write_tokenizer_files
    from coreml_sd.models.open_model import open_model

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
            (path / files[0]["path"]).mkdir()
            (path / files[0]["path"] / "Manifest.json").write_text("{}", encoding="utf-8")
            (path / files[1]["path"]).write_text("no network", encoding="utf-8")
            components[component.name] = {
                "inputs": [dataclasses.asdict(spec) for spec in component.inputs],
                "outputs": [dataclasses.asdict(spec) for spec in component.outputs],
                "files": [{**entry, "inputs": inputs, "outputs": outputs} for entry in files],
            }
        write_tokenizer_files(model.folder, path)
        facts = model.facts.to_dict()
        write_manifest(
            path,
            {
                "pipeline": facts,
                "components": components,
                "config": CONFIG,
                "model": MODEL,
                "notes": [],
            },
        )
        return path

    return make
