"""Single files of weights: read as the folder they came from, or refused in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from coreml_sd.cli.main import cli
from coreml_sd.config import CHECKPOINTS, ConversionConfig
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.errors import UserError
from coreml_sd.generation.generate import GenerationRequest, Generator
from coreml_sd.models.checkpoints import unpack
from coreml_sd.models.checkpoints.families import FAMILIES
from coreml_sd.models.checkpoints.lazy_tensor import LazyTensor
from coreml_sd.models.checkpoints.unpack import unpacked
from coreml_sd.models.open_model import open_model
from coreml_sd.parity.diffusers_source import quiet
from coreml_sd.report.source_bundle import source_bundle
from coreml_sd.runtimes.open_runtime import open_runtime
from tests.helpers import original_layout

UNET = "model.diffusion_model."
# What no shape of a tensor would contradict.
SETTINGS = {
    "text_encoder": ("num_attention_heads", "hidden_act", "eos_token_id"),
    "unet": ("attention_head_dim", "down_block_types", "up_block_types", "upcast_attention"),
    "vae": ("block_out_channels", "layers_per_block"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COREML_SD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("files")

    def file(kind: str) -> Path:
        path = folder / f"{kind}.safetensors"
        return path if path.exists() else original_layout.write(kind, folder)

    return file


def named(kind: str) -> str | None:
    """Nothing in a file tells the smaller Stable Diffusion 2."""
    return kind if kind == "sd2-base" else None


@pytest.mark.parametrize("kind", original_layout.KINDS)
def test_a_file_becomes_the_folder_that_it_came_from(
    files: Callable[[str], Path], kind: str
) -> None:
    folder = unpacked(files(kind), named(kind)).folder
    for part, network in original_layout.networks(kind).items():
        expected = network.state_dict()
        found = load_file(next((folder / part).glob("*.safetensors")))
        assert found.keys() == {name for name in expected if not name.endswith("position_ids")}
        assert all(torch.equal(value, expected[name].half()) for name, value in found.items())
        again = type(network).from_pretrained(folder / part)
        for key in SETTINGS[part.removesuffix("_2")]:
            values = [getattr(each.config, key) for each in (again, network)]
            lists = [list(each) if isinstance(each, (list, tuple)) else each for each in values]
            assert lists[0] == lists[1], (part, key)


@pytest.mark.parametrize(
    ("kind", "pipeline"),
    [("sd1", StableDiffusionPipeline), ("sdxl", StableDiffusionXLPipeline)],
)
def test_the_picture_is_that_of_diffusers_own_reading(
    files: Callable[[str], Path], kind: str, pipeline: Any
) -> None:
    """diffusers reads the file itself; only the configs are those of the folder."""
    path = files(kind)
    folder = unpacked(path).folder
    with quiet():
        theirs = pipeline.from_single_file(
            str(path), config=str(folder), local_files_only=True, torch_dtype=torch.float32
        )
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        "a cat",
        negative_prompt="dog",
        height=32,
        width=32,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images[0]
    plan = plan_conversion(ConversionConfig(model=str(path), size="32x32"))
    with source_bundle(plan) as source:
        draw = Generator(source, open_runtime(source, "torch"))
        request = GenerationRequest("a cat", "dog", 3, 4.0, 5)
        actual = draw(request).pixels
        other = draw(GenerationRequest("a cat", "dog", 3, 4.0, 6)).pixels
        draw.close()
    assert np.abs(actual - np.rint(expected * 255)).max() <= 1
    assert np.abs(other - np.rint(expected * 255)).max() > 1


def test_a_file_converts_like_a_folder(files: Callable[[str], Path], tmp_path: Path) -> None:
    words = ["convert", str(files("sd1")), "--size", "16x16", "--components", "text_encoder"]
    done = CliRunner().invoke(cli, [*words, "-o", str(tmp_path / "bundle")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "bundle/TextEncoder.mlpackage").is_dir()


def test_a_file_is_unpacked_once_and_again_when_it_changes(
    files: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "own.safetensors"
    path.write_bytes(files("sd1").read_bytes())
    told: list[str] = []
    first = unpacked(path, on_part=told.append).folder
    assert told == ["unet", "vae", "text_encoder"]
    assert unpacked(path, on_part=told.append).folder == first and len(told) == 3
    tensors = load_file(path)
    tensors[f"{UNET}out.2.bias"] = tensors[f"{UNET}out.2.bias"] + 1
    save_file(tensors, path)
    second = unpacked(path, on_part=told.append).folder
    assert second != first and len(told) == 6


def test_a_folder_that_is_not_whole_is_none(
    files: Callable[[str], Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(unpack, "write_clip_tokenizer", fail)
        with pytest.raises(UserError, match=r"cannot be written .No space left on device"):
            unpacked(files("sd1"))
    assert [path.suffix for path in (cache / "checkpoints").iterdir()] == [".lock"]
    assert unpacked(files("sd1")).folder.is_dir()


def test_no_room_is_told_before_the_work(
    files: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"unpacking takes 0.0 GB in .*COREML_SD_CACHE"):
        unpacked(files("sd1"))


def test_what_a_file_leaves_open_is_noted(files: Callable[[str], Path], tmp_path: Path) -> None:
    notes = open_model(ConversionConfig(model=str(files("sd2")), size="64x64")).notes
    assert any("--family sd2-base" in note for note in notes)
    chosen = ConversionConfig(model=str(files("sd2-base")), size="64x64", family="sd2-base")
    assert not any("--family" in note for note in open_model(chosen).notes)
    tensors = load_file(files("sd1"))
    averaged = {name.replace(".", "", 1): t + 1 for name, t in tensors.items() if UNET in name}
    save_file(
        {**tensors, **{f"model_ema.{n}": t for n, t in averaged.items()}},
        tmp_path / "e.safetensors",
    )
    assert any("model_ema" in note for note in unpacked(tmp_path / "e.safetensors").notes)


def without(prefix: str) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    return change


def only(name: str, *shape: int) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors.clear()
        tensors[name] = torch.zeros(shape)

    return change


def put(name: str, *shape: int) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (only("lora_unet_down_blocks_0.lora_down.weight", 4, 4), "a LoRA"),
        (only("control_model.time_embed.0.weight", 4, 4), "a ControlNet"),
        (only("encoder.down.0.block.0.conv1.weight", 4, 4), "a VAE"),
        (only("model.diffusion_model.double_blocks.0.img_attn.norm", 4), "a Flux model"),
        (only("down_blocks.0.resnets.0.conv1.weight", 4), "one network in the layout of diffusers"),
        (only("x", 4), "no Stable Diffusion model"),
        (put(f"{UNET}input_blocks.0.0.weight", 64, 9, 3, 3), "its UNet takes 9 channels"),
        (put("conditioner.embedders.0.model.ln_final.weight", 64), "an SDXL refiner"),
        (without("cond_stage_model."), "has no text encoder"),
        (without("first_stage_model."), "not a whole model of sd1"),
        (without(f"{UNET}out."), "not a whole model of sd1"),
        (without(f"{UNET}output_blocks.1.0"), r"its unet is not that of sd1: it lacks up_blocks.0"),
        (put(f"{UNET}middle_block.1.extra", 4), r"has more than such a network: mid_block"),
        (put(f"{UNET}input_blocks.2.0.in_layers.2.weight", 5, 5), r"has other shapes of down_bl"),
        (put(f"{UNET}input_blocks.999999999999.0.x", 4), "not a whole model of sd1"),
        (put(f"{UNET}input_blocks.0.0.weight", 64, 4), "no whole model: it lacks"),
    ],
)
def test_what_is_no_whole_model_is_refused_and_leaves_nothing(
    files: Callable[[str], Path],
    tmp_path: Path,
    cache: Path,
    change: Callable[[dict[str, Any]], None],
    told: str,
) -> None:
    tensors = load_file(files("sd1"))
    change(tensors)
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=told) as error:
        unpacked(tmp_path / "a.safetensors")
    assert "\n" not in str(error.value)
    left = [*(cache / "checkpoints").iterdir()] if (cache / "checkpoints").exists() else []
    assert [path for path in left if path.suffix != ".lock"] == []


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin"])
def test_a_pickle_is_never_opened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(UserError, match="a pickle, which can run any program"):
        open_model(ConversionConfig(model=str(path)))


def test_a_damaged_file_is_named(files: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(files("sd1").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cut.safetensors: truncated or damaged"):
        open_model(ConversionConfig(model=str(path)))
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match=r"cut\.safetensors"):
        open_model(ConversionConfig(model=str(path)))


def test_a_folder_says_its_family_itself(sd1_folder: Path) -> None:
    with pytest.raises(UserError, match=r"family sd1: .* is no single file"):
        open_model(ConversionConfig(model=str(sd1_folder), family="sd1"))


def test_every_family_of_the_config_is_known_and_tried() -> None:
    assert set(CHECKPOINTS) == set(FAMILIES) == set(original_layout.KINDS)


def test_one_tensor_is_in_memory_at_a_time(
    files: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values are read while a part is written, each once."""
    read: list[int] = []
    value = LazyTensor.value

    def counted(tensor: LazyTensor) -> torch.Tensor:
        read.append(tensor.shape.numel())
        return value(tensor)

    monkeypatch.setattr(LazyTensor, "value", counted)
    folder = unpacked(files("sdxl")).folder
    stored = [load_file(path) for path in folder.glob("*/*.safetensors")]
    assert sorted(read) == sorted(t.numel() for tensors in stored for t in tensors.values())
