"""A latent consistency model: few steps, one row, and the guidance as an input of its UNet."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline

from coreml_sd.bundle import Bundle, open_bundle
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.generation.generate import GenerationRequest, Generator
from coreml_sd.metrics import psnr_db
from coreml_sd.models import denoiser
from coreml_sd.models.open_model import open_model
from coreml_sd.runtimes.open_runtime import open_runtime
from tests.helpers.short_unet import SHORT, with_unet
from tests.helpers.tiny_folder import change_json, name_scheduler

WIDTH = 16
REQUEST = GenerationRequest("a cat", steps=3, guidance=6.0, seed=5)


@pytest.fixture(scope="module")
def folder(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Stable Diffusion with a short UNet that is told the guidance."""
    path = tmp_path_factory.mktemp("lcm") / "model"
    with_unet(sd1_folder, path, **SHORT, time_cond_proj_dim=WIDTH)
    name_scheduler(path, "LCMScheduler")
    change_json(path / "model_index.json", _class_name="LatentConsistencyModelPipeline")
    change_json(path / "model_index.json", scheduler=["diffusers", "LCMScheduler"])
    return path


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    config = ConversionConfig(model=str(folder))
    return convert(config, tmp_path_factory.mktemp("lcm") / "b", jobs=1, resume=False)


def test_it_is_converted_and_proved_against_diffusers(bundle: Bundle) -> None:
    unet = bundle.component("unet")
    assert [spec["name"] for spec in unet["inputs"]][-1] == "timestep_cond"
    assert unet["inputs"][0]["shape"][0] == bundle.pipeline["batch"] == 1
    assert bundle.pipeline["denoiser"]["guidance"] == "embedded"
    assert (bundle.pipeline["advice"]["steps"], bundle.pipeline["advice"]["guidance"]) == (4, 8.5)
    told = bundle.manifest["source_parity"]
    assert "LatentConsistencyModelPipeline" in told["label"]
    assert all(check["passed"] for check in told["checks"])


def test_the_torch_runtime_draws_what_diffusers_draws(folder: Path, bundle: Bundle) -> None:
    pipeline = LatentConsistencyModelPipeline.from_pretrained(folder)
    expected = pipeline(
        REQUEST.prompt,
        num_inference_steps=REQUEST.steps,
        guidance_scale=REQUEST.guidance,
        generator=torch.Generator().manual_seed(REQUEST.seed),
        output_type="np",
    ).images[0]
    pixels = Generator(bundle, open_runtime(bundle, "torch"))(REQUEST).pixels
    assert psnr_db(expected, pixels / 255) > 45


def test_guidance_and_files_make_the_picture(bundle: Bundle) -> None:
    drawn = Generator(bundle, open_runtime(bundle, "mil"))
    picture = drawn(REQUEST).pixels.astype(float)
    source = Generator(bundle, open_runtime(bundle, "torch"))(REQUEST).pixels
    assert psnr_db(source.astype(float), picture) > 30
    other = drawn(dataclasses.replace(REQUEST, guidance=2.0)).pixels
    assert not np.array_equal(picture, other)
    negative = drawn(dataclasses.replace(REQUEST, negative_prompt="a dog")).pixels
    np.testing.assert_array_equal(picture, negative)  # there is no negative half


def test_a_wrong_embedding_of_the_guidance_is_noticed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoiser, "_GUIDANCE_SCALE", 999.0)
    config = ConversionConfig(model=str(folder), components=["text_encoder"])
    with pytest.raises(CoremlSDError, match="timestep_cond"):
        convert(config, tmp_path / "b", resume=False)


def test_a_unet_that_is_not_told_the_guidance_is_refused(sd1_folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(sd1_folder, tmp_path / "model"))
    change_json(path / "model_index.json", _class_name="LatentConsistencyModelPipeline")
    with pytest.raises(UserError, match="time_cond_proj_dim"):
        open_model(ConversionConfig(model=str(path)))


def test_stable_diffusion_may_be_told_the_guidance_too(folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(folder, tmp_path / "model"))
    change_json(path / "model_index.json", _class_name="StableDiffusionPipeline")
    facts = open_model(ConversionConfig(model=str(path))).facts
    assert facts.denoiser.guidance == "embedded" and facts.advice.steps == 20


def test_a_bundle_opens_again(bundle: Bundle) -> None:
    assert open_bundle(bundle.path).pipeline["denoiser"] == bundle.pipeline["denoiser"]
