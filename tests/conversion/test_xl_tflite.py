"""Stable Diffusion XL for Android: files, proof, what the GPU takes, pictures."""

from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from coreml_sd.bundle import open_bundle
from coreml_sd.cli.main import cli
from coreml_sd.generation.generate import GenerationRequest
from coreml_sd.metrics import psnr_db
from coreml_sd.report import measure as measuring
from tests.models.test_stable_diffusion_xl import NAMES, draw


def test_every_component_passed_its_gates(
    xl_tflite_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "measure_memory", lambda *_: None)  # MobileDiffusion's is
    bundle = open_bundle(xl_tflite_bundle)
    assert list(bundle.components) == NAMES
    for entry in bundle.components.values():
        assert all(check["passed"] for check in entry["parity"]["tflite"]["checks"])
    report = measuring.measure(bundle, prompts=["a cat! wow"])
    assert report.passed and len(report.pictures) == 1


def test_the_unet_gets_the_pooled_prompt_from_the_second_encoder(xl_tflite_bundle: Path) -> None:
    """The text encoders of other families give their states only."""
    (file,) = open_bundle(xl_tflite_bundle).components["text_encoder_2"]["files"]
    assert file["outputs"] == ["hidden_embeds", "pooled_outputs"]


def test_the_gpu_takes_every_file(xl_tflite_bundle: Path) -> None:
    done = CliRunner().invoke(cli, ["lint", str(xl_tflite_bundle)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "0 errors, 0 warnings" in done.output


@pytest.mark.parametrize(
    ("prompt", "negative", "guidance"),
    [("a cat! wow", "dog", 15.0), ("a cat", "", 15.0), ("a cat", "", 1.0)],
    ids=["both prompts", "no negative prompt", "no guidance"],
)
def test_litert_draws_nearly_what_the_source_draws(
    xl_tflite_bundle: Path, prompt: str, negative: str, guidance: float
) -> None:
    request = GenerationRequest(prompt, negative, 3, guidance, 5)
    source = draw(xl_tflite_bundle, request, "torch").astype(float)
    assert psnr_db(source, draw(xl_tflite_bundle, request, "litert")) > 60
    other = GenerationRequest("dog wow dog", negative, 3, guidance, 5)
    assert psnr_db(source, draw(xl_tflite_bundle, other, "litert")) < 60
