"""UNets for few steps beside the usual one: the steps of a picture say which one draws."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from coreml_sd.bundle import Bundle, open_bundle
from coreml_sd.cli.main import cli
from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.generation.generate import GenerationRequest, Generator
from coreml_sd.metrics import psnr_db
from coreml_sd.models.hub import files_in_use
from coreml_sd.models.mobile_diffusion import MobileDiffusionPipeline, MobileDiffusionUNet
from coreml_sd.models.open_model import open_model
from coreml_sd.report.measure import measure
from coreml_sd.runtimes.open_runtime import open_runtime
from coreml_sd.targets.saved_files import bundle_picture_costs
from tests.helpers.tiny_folder import change_json

USUAL, ONE, EIGHT = "unet", "unet_1_step", "unet_8_steps"
DRAWN_BY = {1: ONE, 2: EIGHT, 8: EIGHT, 9: USUAL, 20: USUAL}
Draw = Callable[..., np.ndarray]


def asked(steps: int) -> GenerationRequest:
    return GenerationRequest("a cat", "dog", steps, guidance=4.0, seed=5, scheduler="ddim")


@pytest.fixture(scope="module")
def bundle(few_step_bundle: Path) -> Bundle:
    return open_bundle(few_step_bundle)


@pytest.fixture(scope="module")
def expected(few_step_folder: Path) -> Callable[[int, str], np.ndarray]:
    """What diffusers' pipeline draws with one of the UNets."""
    pipeline = MobileDiffusionPipeline.from_pretrained(few_step_folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)

    def drawn(steps: int, unet: str) -> np.ndarray:
        pipeline.unet = MobileDiffusionUNet.from_pretrained(few_step_folder / unet)
        combined = unet == USUAL
        image = pipeline(
            "a cat",
            negative_prompt="dog" if combined else None,
            num_inference_steps=steps,
            guidance_scale=1.0 if unet == ONE else 4.0,
            generator=torch.Generator().manual_seed(5),
            output_type="np",
        ).images[0]
        return np.rint(image * 255)

    return drawn


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_every_runtime_draws_what_diffusers_draws_with_that_unet(
    bundle: Bundle, expected: Callable[[int, str], np.ndarray], steps: int
) -> None:
    wanted = expected(steps, DRAWN_BY.get(steps, EIGHT))
    for runtime, floor in (("torch", 50.0), ("mil", 30.0), ("litert", 30.0)):
        draw = Generator(bundle, open_runtime(bundle, runtime))
        assert psnr_db(wanted, draw(asked(steps)).pixels) > floor, runtime
        draw.close()
    for other in {USUAL, ONE, EIGHT} - {DRAWN_BY.get(steps, EIGHT)}:  # it can fail
        assert psnr_db(wanted, expected(steps, other)) < 25, other


@pytest.mark.parametrize("policy", ["all-resident", "pipelined", "stage-by-stage"])
def test_one_generator_changes_from_unet_to_unet(bundle: Bundle, policy: str) -> None:
    """And the pictures are those of a generator that does nothing else."""
    opened = open_runtime(bundle, "litert")
    drawn = {}
    for steps in (9, 1, 3):
        alone = Generator(bundle, opened)
        drawn[steps] = alone(asked(steps)).pixels
        alone.close()
    draw = Generator(bundle, opened, memory_policy=policy)
    for steps in (9, 1, 9, 3, 3, 1):
        assert (draw(asked(steps)).pixels == drawn[steps]).all(), steps
    draw.close()


def test_the_manifest_tells_them_and_every_one_is_proved(bundle: Bundle) -> None:
    told = bundle.pipeline["few_steps"]
    assert [(few["steps"], few["denoiser"]["component"]) for few in told] == [(1, ONE), (8, EIGHT)]
    assert [few["denoiser"]["guidance"] for few in told] == ["none", "embedded"]
    batches = {
        name: bundle.component(name)["inputs"][0]["shape"][0] for name in (USUAL, ONE, EIGHT)
    }
    assert batches == {USUAL: 2, ONE: 1, EIGHT: 1}
    for name in (USUAL, ONE, EIGHT):
        for target, proof in bundle.component(name)["parity"].items():
            assert all(check["passed"] for check in proof["checks"]), (name, target)
            assert any("diffusers" in check["name"] for check in proof["checks"]), (name, target)
    checked = [check["name"] for check in bundle.manifest["source_parity"]["checks"]]
    assert {f"what {ONE} is told: differences", f"scheduler, {EIGHT}: timesteps"} <= {*checked}


def test_the_report_draws_with_each(bundle: Bundle) -> None:
    report = measure(bundle, prompts=["a cat"], runtime="mil")
    assert report.passed
    assert [row.request.steps for row in report.pictures] == [8, 1]


def test_a_picture_is_counted_with_the_unet_that_draws_it(bundle: Bundle) -> None:
    costs = {each.steps: each for each in bundle_picture_costs(bundle, "coreml")}
    assert costs[20].macs > 20 * 1.9 / 8 * costs[8].macs > costs[8].macs > 5 * costs[1].macs
    assert costs[8].resident_bytes < costs[20].resident_bytes + 1e6


@pytest.mark.parametrize(
    ("few_steps", "message"),
    [
        ([ONE], "is not a table"),
        ({"net": 1}, "'net' is no folder of a UNet"),
        ({"../unet_1": 1}, "is no folder of a UNet"),
        ({ONE: 0}, "is 0; give its steps"),
        ({ONE: True}, "is True; give its steps"),
        ({ONE: 1, EIGHT: 1}, "two of them have the same steps"),
        ({"unet_4_steps": 4}, "no unet_4_steps/config.json"),
    ],
)
def test_advice_that_makes_no_sense_is_refused(
    few_step_folder: Path, tmp_path: Path, few_steps: Any, message: str
) -> None:
    folder = Path(shutil.copytree(few_step_folder, tmp_path / "model"))
    change_json(folder / "coreml_sd.json", few_steps=few_steps)
    with pytest.raises(UserError, match=message):
        open_model(ConversionConfig(model=str(folder)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "only MobileDiffusionUNet is supported"),
        ({"in_channels": 4, "out_channels": 4}, "takes 4 channels and the VAE makes 8"),
        ({"cross_attention_dim": 48}, "UNet context 48 differ"),
    ],
)
def test_a_unet_that_does_not_fit_the_model_is_refused(
    few_step_folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(few_step_folder, tmp_path / "model"))
    change_json(folder / ONE / "config.json", **changes)
    with pytest.raises(UserError, match=message):
        open_model(ConversionConfig(model=str(folder)))


def test_another_family_says_that_it_has_none(sd1_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sd1_folder, tmp_path / "model"))
    (folder / "coreml_sd.json").write_text(json.dumps({"few_steps": {ONE: 1}}), "utf-8")
    with pytest.raises(UserError, match="stable-diffusion models have no UNets for few steps"):
        open_model(ConversionConfig(model=str(folder)))


def test_a_bundle_without_them_says_what_to_convert(few_step_folder: Path, tmp_path: Path) -> None:
    words = ["convert", str(few_step_folder), "-o", str(tmp_path / "b"), "--no-verify"]
    assert CliRunner().invoke(cli, [*words, "--components", f"text_encoder,{ONE}"]).exit_code == 0
    drawn = CliRunner().invoke(cli, ["generate", "a cat", "--bundle", str(tmp_path / "b")])
    assert isinstance(drawn.exception, UserError)
    assert f"no {EIGHT} in this bundle" in str(drawn.exception)


def test_a_hub_model_is_fetched_with_them() -> None:
    names = [f"{part}/{file}" for part in (USUAL, ONE) for file in ("config.json", WEIGHTS)]
    wanted = set(files_in_use("m", names, lambda part: part == USUAL, None, [ONE]))
    assert wanted == set(names)
    assert f"{ONE}/{WEIGHTS}" not in set(files_in_use("m", names, lambda part: part == USUAL, None))


WEIGHTS = "diffusion_pytorch_model.safetensors"
