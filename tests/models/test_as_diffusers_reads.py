"""Configs, classes and corrections of a folder are what diffusers' own pipeline makes of them."""

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig

from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.models import mobile_diffusion
from coreml_sd.models.folder.class_defaults import class_defaults, is_scheduler
from coreml_sd.models.open_model import open_model
from coreml_sd.models.pipeline import DiffusionModel
from tests.helpers.diffusers_pipeline import as_diffusers_opens
from tests.helpers.tiny_folder import change_json, name_scheduler, randomize

SCHEDULERS = [
    name
    for name in dir(diffusers)
    if name.endswith("Scheduler") and hasattr(getattr(diffusers, name), "from_config")
]


@pytest.fixture
def model(sd1_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd1_folder, tmp_path / "model"))


def opened(folder: Path, **config: Any) -> DiffusionModel:
    return open_model(ConversionConfig(model=str(folder), **config))


def signature_defaults(kind: Any) -> dict[str, Any]:
    parameters = inspect.signature(kind.__init__).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def rewrite(path: Path, *without: str, **values: Any) -> None:
    content = {**json.loads(path.read_text("utf-8")), **values}
    path.write_text(json.dumps({k: v for k, v in content.items() if k not in without}), "utf-8")


class TestDefaultsOfTheClasses:
    @pytest.mark.parametrize("name", ["UNet2DConditionModel", "AutoencoderKL"])
    def test_they_are_those_of_the_class(self, name: str) -> None:
        assert class_defaults(name) == signature_defaults(getattr(diffusers, name))

    def test_of_every_scheduler_what_is_corrected(self) -> None:
        for name in SCHEDULERS:
            if "dummy" in getattr(diffusers, name).__module__:
                continue  # it needs a package that is not here
            expected, found = signature_defaults(getattr(diffusers, name)), class_defaults(name)
            for key in ("steps_offset", "clip_sample"):
                assert found.get(key) == expected.get(key), name

    @pytest.mark.parametrize("name", ["MobileDiffusionUNet", "MobileDiffusionVAE"])
    def test_of_our_own_too(self, name: str) -> None:
        assert class_defaults(name) == signature_defaults(getattr(mobile_diffusion, name))

    def test_of_the_text_encoder(self) -> None:
        expected, found = CLIPTextConfig().to_dict(), class_defaults("CLIPTextConfig")
        for key in ("vocab_size", "hidden_size", "projection_dim", "max_position_embeddings"):
            assert found[key] == expected[key]

    def test_what_is_no_scheduler(self) -> None:
        assert is_scheduler("PNDMScheduler")
        assert not is_scheduler("UNet2DConditionModel") and not is_scheduler("NoScheduler")


class TestKeysThatAreLeftOut:
    def test_of_the_unet(self, model: Path) -> None:
        rewrite(model / "unet/config.json", "in_channels", "out_channels")
        assert opened(model).facts.latent_channels == 4

    def test_of_the_vae(self, model: Path) -> None:
        shutil.rmtree(model / "vae")
        randomize(AutoencoderKL(norm_num_groups=8)).save_pretrained(model / "vae")
        rewrite(model / "vae/config.json", "block_out_channels", "scaling_factor", "shift_factor")
        facts, pipeline = opened(model).facts, as_diffusers_opens(model)
        assert facts.vae_scale_factor == pipeline.vae_scale_factor == 1
        assert facts.scaling_factor == pipeline.vae.config.scaling_factor == 0.18215
        opened(model).component("vae_decoder").open()

    def test_of_the_text_encoder(self, model: Path) -> None:
        rewrite(model / "text_encoder/config.json", "max_position_embeddings", "projection_dim")
        assert opened(model).facts.max_tokens == 77

    def test_one_width_of_the_text_for_each_block(self, model: Path) -> None:
        config = model / "unet/config.json"
        width = json.loads(config.read_text("utf-8"))["cross_attention_dim"]
        change_json(config, cross_attention_dim=[width, width])
        component = opened(model).component("unet")
        component.open()
        assert component.inputs[2].shape[1] == width
        change_json(config, cross_attention_dim=[width, 2 * width])
        with pytest.raises(UserError, match=r"cross_attention_dim .* only one width for all"):
            opened(model)

    def test_a_size_that_nothing_tells(self, model: Path) -> None:
        rewrite(model / "unet/config.json", "sample_size")
        with pytest.raises(UserError, match=r"unet/config.json: sample_size None .* --size"):
            opened(model)
        assert opened(model, size="32x32").facts.size == (32, 32)


CORRECTED: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "PNDM without steps_offset": ("PNDMScheduler", ("steps_offset",), {}),
    "PNDM, steps_offset 0": ("PNDMScheduler", (), {"steps_offset": 0}),
    "DDIM without clip_sample": ("DDIMScheduler", ("clip_sample",), {}),
    "DDIM that clips": ("DDIMScheduler", (), {"clip_sample": True}),
    "DDIM without either": ("DDIMScheduler", ("clip_sample", "steps_offset"), {}),
    "DPM-Solver without steps_offset": ("DPMSolverMultistepScheduler", ("steps_offset",), {}),
    "Euler, steps_offset 2": ("EulerDiscreteScheduler", (), {"steps_offset": 2}),
    "LCM that clips": ("LCMScheduler", (), {"clip_sample": True}),
    "nothing to correct": ("PNDMScheduler", (), {}),
}


class TestCorrections:
    @pytest.mark.parametrize("kind", ["StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"])
    @pytest.mark.parametrize("name", CORRECTED)
    def test_of_a_scheduler(self, name: str, kind: str, model: Path) -> None:
        scheduler, without, values = CORRECTED[name]
        change_json(model / "model_index.json", _class_name=kind)
        name_scheduler(model, scheduler, skip_prk_steps=True, **values)
        rewrite(model / "scheduler/scheduler_config.json", *without)
        found, expected = opened(model), as_diffusers_opens(model).scheduler.config
        defaults = class_defaults(scheduler)
        for key in ("steps_offset", "clip_sample"):
            if key in expected:
                assert found.facts.scheduler.get(key, defaults.get(key)) == expected[key]
        as_written = json.loads((model / "scheduler/scheduler_config.json").read_text("utf-8"))
        changed = {key for key, value in expected.items() if as_written.get(key) != value}
        told = {"steps_offset", "clip_sample"} & changed - {"_class_name"}
        assert len(found.notes) == len(told)
        assert all(any(key in note for note in found.notes) for key in told)

    def test_xl_corrects_nothing(self, xl_folder: Path, tmp_path: Path) -> None:
        model = Path(shutil.copytree(xl_folder, tmp_path / "model"))
        rewrite(model / "scheduler/scheduler_config.json", steps_offset=0)
        assert opened(model).facts.scheduler["steps_offset"] == 0
        assert as_diffusers_opens(model).scheduler.config.steps_offset == 0

    def test_the_class_is_the_one_that_the_index_names(self, model: Path) -> None:
        change_json(model / "model_index.json", scheduler=["diffusers", "EulerDiscreteScheduler"])
        assert opened(model).facts.scheduler["_class_name"] == "EulerDiscreteScheduler"
        assert type(as_diffusers_opens(model).scheduler).__name__ == "EulerDiscreteScheduler"

    @pytest.mark.parametrize("version", ["0.2.2", "0.8.1", "0.9.0.dev0", "0.9.0", "0.42.1", None])
    @pytest.mark.parametrize("side", [8, 64, 96])
    def test_of_the_size_of_old_unets(self, version: str | None, side: int, model: Path) -> None:
        config = model / "unet/config.json"
        rewrite(config, "_diffusers_version", sample_size=side)
        if version:
            change_json(config, _diffusers_version=version)
        found, pipeline = opened(model), as_diffusers_opens(model)
        expected = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        assert found.facts.size == (expected, expected)
        assert bool(found.notes) == (pipeline.unet.config.sample_size != side)

    def test_a_height_and_a_width(self, model: Path) -> None:
        rewrite(model / "unet/config.json", sample_size=[8, 16], _diffusers_version="0.2.0")
        assert opened(model).facts.size == (16, 32)
        assert tuple(as_diffusers_opens(model).unet.config.sample_size) == (8, 16)


def vae_class(name: str) -> Any:
    def change(model: Path) -> None:
        change_json(model / "vae/config.json", _class_name=name)

    return change


def indexed(**parts: Any) -> Any:
    def change(model: Path) -> None:
        change_json(model / "model_index.json", **parts)

    return change


def text_type(**values: Any) -> Any:
    def change(model: Path) -> None:
        change_json(model / "text_encoder/config.json", **values)

    return change


REFUSED: dict[str, tuple[Any, str]] = {
    "an asymmetric decoder": (
        vae_class("AsymmetricAutoencoderKL"),
        r"vae/config.json is AsymmetricAutoencoderKL; only AutoencoderKL is supported",
    ),
    "a tiny autoencoder in the index": (
        indexed(vae=["diffusers", "AutoencoderTiny"]),
        r"model_index.json: vae is AutoencoderTiny; only AutoencoderKL",
    ),
    "another denoiser": (
        indexed(unet=["diffusers", "UNet3DConditionModel"]),
        r"model_index.json: unet is UNet3DConditionModel",
    ),
    "T5": (text_type(model_type="t5"), "text_encoder/config.json: model_type is t5"),
    "BERT": (
        text_type(architectures=["BertModel"]),
        "text_encoder/config.json is BertModel; only CLIPTextModel",
    ),
    "another language's CLIP": (
        indexed(text_encoder=["alt_diffusion", "RobertaSeriesModelWithTransformation"]),
        "model_index.json: text_encoder is RobertaSeriesModelWithTransformation",
    ),
    "another tokenizer": (
        indexed(tokenizer=["transformers", "T5Tokenizer"]),
        "model_index.json: tokenizer is T5Tokenizer",
    ),
    "a part left out": (indexed(vae=[None, None]), "model_index.json: names no vae"),
    "no such scheduler": (
        indexed(scheduler=["diffusers", "NewScheduler"]),
        "scheduler is NewScheduler, which this diffusers does not have",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_part_of_another_class_is_refused_by_name(name: str, model: Path) -> None:
    change, message = REFUSED[name]
    change(model)
    with pytest.raises(UserError, match=message):
        opened(model)


def test_the_config_of_a_whole_clip_model(model: Path) -> None:
    """transformers takes the text encoder's part of it."""
    path = model / "text_encoder/config.json"
    text = json.loads(path.read_text("utf-8"))
    whole = {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 8}
    path.write_text(json.dumps({**whole, "text_config": text, "vision_config": {}}), "utf-8")
    expected = as_diffusers_opens(model).text_encoder
    found = opened(model).component("text_encoder").open()
    assert found.module.config.hidden_size == expected.config.hidden_size
