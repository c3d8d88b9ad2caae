"""Stable Diffusion XL end to end on a tiny model: files, proof, pictures, what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import StableDiffusionXLPipeline
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from coreml_sd.bundle import open_bundle
from coreml_sd.cli.main import cli
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.errors import UserError
from coreml_sd.generation.generate import GenerationRequest, Generator
from coreml_sd.metrics import psnr_db
from coreml_sd.models.open_model import open_model
from coreml_sd.report.measure import measure
from coreml_sd.runtimes.open_runtime import open_runtime
from tests.conversion.test_apple_names import tensors
from tests.generation.test_generate import draw_with_unet
from tests.helpers.diffusers_pipeline import diffusers_pipeline
from tests.helpers.tiny_folder import changed_folder
from tests.helpers.tiny_xl import POOLED, WIDTHS

pytestmark = pytest.mark.usefixtures("quick_capture")
NAMES = ["text_encoder", "text_encoder_2", "unet", "vae_decoder", "vae_encoder"]


def draw(path: Path, request: GenerationRequest, runtime: str = "mil") -> np.ndarray:
    bundle = open_bundle(path, check=False)
    return Generator(bundle, open_runtime(bundle, runtime))(request).pixels


@pytest.fixture(scope="module")
def pipeline(xl_folder: Path) -> StableDiffusionXLPipeline:
    return diffusers_pipeline(StableDiffusionXLPipeline, xl_folder)


@pytest.mark.parametrize(
    ("prompt", "negative", "guidance"),
    [("a cat", "dog", 15.0), ("a cat! wow", "", 15.0), ("a cat", "", 1.0)],
    ids=["both prompts", "no negative prompt", "no guidance"],
)
def test_the_torch_runtime_equals_diffusers_own_pipeline(
    pipeline: StableDiffusionXLPipeline,
    xl_bundle: Path,
    prompt: str,
    negative: str,
    guidance: float,
) -> None:
    """Independent of everything of ours: tokens, both encoders, conditions, guidance, decoding."""
    expected = pipeline(
        prompt,
        negative_prompt=negative or None,
        num_inference_steps=3,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images[0]

    expected = np.rint(expected * 255)

    def drawn(prompt: str) -> np.ndarray:
        request = GenerationRequest(prompt, negative, 3, guidance, 5, "ddim")
        return draw(xl_bundle, request, "torch").astype(float)

    assert np.abs(drawn(prompt) - expected).max() <= 1
    assert psnr_db(expected, drawn(prompt)) > 60
    assert psnr_db(expected, drawn("dog wow dog")) < 60


def test_what_conditions_are_for_changes_the_picture(xl_bundle: Path) -> None:
    """The comparison above would notice: each input of the UNet matters to this tiny model."""
    unet = open_runtime(open_bundle(xl_bundle, check=False), "torch").open("unet")
    inputs = open_model(_config(xl_bundle)).component("unet").sample_inputs(0)
    before = unet.run(inputs)["noise_pred"]
    for name in ("encoder_hidden_states", "time_ids", "text_embeds"):
        after = unet.run({**inputs, name: 0 * inputs[name]})["noise_pred"]
        assert psnr_db(before, after) < 60, name


def _config(bundle: Path) -> ConversionConfig:
    return ConversionConfig(model=open_bundle(bundle, check=False).manifest["config"]["model"])


def test_fp16_files_draw_nearly_what_the_source_draws(xl_fp16_bundle: Path) -> None:
    request = GenerationRequest("a cat", "dog", 3, 4.0, 5)
    source = draw(xl_fp16_bundle, request, "torch").astype(float)
    assert psnr_db(source, draw(xl_fp16_bundle, request)) > 40


def test_a_unet_of_batch_one_draws_the_same(
    xl_folder: Path, xl_fp16_bundle: Path, tmp_path: Path
) -> None:
    request = GenerationRequest("a cat", "dog", 2, 4.0, 5)
    config = ConversionConfig(model=str(xl_folder), batch=1, components=["unet"])
    one = convert(config, tmp_path / "one", verify=False)
    picture = draw_with_unet(one, xl_fp16_bundle, request).astype(float)
    assert psnr_db(picture, draw(xl_fp16_bundle, request)) > 40


def test_every_component_passed_its_gates(xl_bundle: Path) -> None:
    bundle = open_bundle(xl_bundle)
    assert list(bundle.components) == NAMES
    for entry in bundle.components.values():
        assert all(check["passed"] for check in entry["parity"]["coreml"]["checks"])
    assert bundle.pipeline["tokenizer_2"]["pad_token_id"] == 0
    assert bundle.pipeline["tokenizer"]["pad_token_id"] != 0
    report = measure(bundle, prompts=["a cat"])
    assert report.passed and len(report.pictures) == 1


def test_chunks_chain(xl_folder: Path, tmp_path: Path) -> None:
    config = ConversionConfig(model=str(xl_folder), components=["unet"], chunks="3", palettize=6)
    bundle = convert(config, tmp_path / "b", verify=False)
    assert len(bundle.files("unet", "coreml")) == 3
    report = measure(bundle, prompts=[])
    assert report.passed
    unet = next(entry for entry in report.components if entry.component == "unet")
    assert unet.checks[-1].figure == "identical"


def test_names_and_shapes_are_those_of_apples_converter(xl_bundle: Path) -> None:
    """`TextEncoderXL.swift`, `Unet.swift` and `StableDiffusionXL+Resources.swift` of
    apple/ml-stable-diffusion ask for these."""
    from coreml_sd.runtimes.mil import MilPackage

    def declared(stem: str) -> tuple[dict[str, Any], dict[str, Any]]:
        description = MilPackage(xl_bundle / f"{stem}.mlpackage").spec.description
        return tensors(description.input), tensors(description.output)

    for stem, width, pooled in (
        ("TextEncoder", WIDTHS[0], WIDTHS[0]),
        ("TextEncoder2", WIDTHS[1], POOLED),
    ):
        assert declared(stem) == (
            {"input_ids": ((1, 77), "FLOAT32")},
            {
                "hidden_embeds": ((1, 77, width), "FLOAT32"),
                "pooled_outputs": ((1, pooled), "FLOAT32"),
            },
        )
    inputs, outputs = declared("Unet")
    assert inputs == {
        "sample": ((2, 4, 8, 8), "FLOAT16"),
        "timestep": ((2,), "FLOAT32"),
        "encoder_hidden_states": ((2, sum(WIDTHS), 1, 77), "FLOAT16"),
        "time_ids": ((2, 6), "FLOAT32"),
        "text_embeds": ((2, POOLED), "FLOAT16"),
    }
    assert outputs == {"noise_pred": ((2, 4, 8, 8), "FLOAT32")}


@pytest.mark.parametrize(
    "arguments", [["inspect"], ["inspect", "--json"], ["lint"], ["parity", "--no-pictures"]]
)
def test_commands_take_the_bundle(xl_bundle: Path, arguments: list[str]) -> None:
    done = CliRunner().invoke(cli, [*arguments, str(xl_bundle)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_inspect_and_dry_run_take_the_folder(xl_folder: Path) -> None:
    counted = CliRunner().invoke(cli, ["inspect", "--json", str(xl_folder)])
    assert list(json.loads(counted.stdout)["components"]) == NAMES
    planned = CliRunner().invoke(cli, ["convert", str(xl_folder), "--palettize", "6", "--dry-run"])
    assert planned.exit_code == 0 and '"text_encoder_2"' in planned.stdout


@pytest.mark.parametrize(
    ("relative", "values", "message"),
    [
        ("model_index.json", {"requires_aesthetics_score": True}, "refiners are not supported"),
        ("unet/config.json", {"addition_embed_type": None}, "addition_embed_type"),
        ("unet/config.json", {"addition_time_embed_dim": 4}, "need 64"),
        ("unet/config.json", {"in_channels": 9}, "inpainting"),
        ("unet/config.json", {"cross_attention_dim": 32}, "width 80 and UNet context 32"),
        ("vae/config.json", {"latents_mean": [0, 0, 0, 0]}, "latents_mean"),
        ("text_encoder_2/config.json", {"max_position_embeddings": 64}, "77 and 64 tokens"),
        ("tokenizer_2/vocab.json", {"extra": 600}, "different vocabularies"),
    ],
)
def test_relatives_are_refused(
    xl_folder: Path, tmp_path: Path, relative: str, values: dict[str, Any], message: str
) -> None:
    folder = changed_folder(xl_folder, tmp_path, relative, **values)
    with pytest.raises(UserError, match=message):
        open_model(ConversionConfig(model=str(folder)))


def test_a_refiner_is_refused(xl_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(xl_folder, tmp_path / "model"))
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(UserError, match="refiners are not supported"):
        open_model(ConversionConfig(model=str(folder)))


def test_stable_diffusion_has_no_second_encoder(sd1_folder: Path) -> None:
    from coreml_sd.conversion.plan import plan_conversion

    config = ConversionConfig(model=str(sd1_folder), components=["text_encoder_2"])
    with pytest.raises(UserError, match="no component text_encoder_2; it has text_encoder, unet"):
        plan_conversion(config)


def test_text_encoders_saved_in_fp16_are_opened_in_fp32(xl_folder: Path, tmp_path: Path) -> None:
    """Their configs name the type, as the published ones do, and shapes are captured in it."""
    folder = Path(shutil.copytree(xl_folder, tmp_path / "model"))
    for part, kind in (
        ("text_encoder", CLIPTextModel),
        ("text_encoder_2", CLIPTextModelWithProjection),
    ):
        kind.from_pretrained(xl_folder / part).half().save_pretrained(folder / part)
        assert '"float16"' in (folder / part / "config.json").read_text("utf-8")
        opened = open_model(ConversionConfig(model=str(folder))).component(part).open()
        assert opened is not None
        assert {p.dtype for p in opened.module.parameters()} == {torch.float32}
