"""img2img in Swift draws what diffusers' own pipeline draws, given the same fp32 weights."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from coreml_sd.schedulers.schedulers import make_scheduler
from tests.helpers.diffusers_pipeline import diffusers_pipeline
from tests.helpers.tiny_tflite import TinyFiles

PROMPT, STEPS, SEED = "a cat", 10, 0


@pytest.fixture(scope="module")
def exact_bundle(tiny_files: TinyFiles, sd1_folder: Path) -> Path:
    """The tiny SD 1.x model with fp32 weights."""
    return tiny_files.bundle("exact", sd1_folder, targets=["tflite"], quantize="fp32", verify=False)


@pytest.fixture
def start() -> Image.Image:
    """Four coloured patches of 8 by 8."""
    patches = np.array([[[30, 60, 200], [240, 240, 240]], [[20, 20, 20], [220, 160, 40]]], np.uint8)
    return Image.fromarray(patches.repeat(8, 0).repeat(8, 1))


def diffusers_pixels(
    folder: Path, start: Image.Image, scheduler: str, strength: float
) -> np.ndarray:
    pipe = diffusers_pipeline(StableDiffusionImg2ImgPipeline, folder)
    pipe.scheduler = make_scheduler(scheduler, dict(pipe.scheduler.config))
    drawn = pipe(
        PROMPT,
        image=start,
        strength=strength,
        guidance_scale=3.0,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(SEED),
    )
    return np.asarray(drawn.images[0], dtype=int)


@pytest.mark.parametrize(
    ("scheduler", "strength"), [("dpm++", 0.3), ("ddim", 0.7), ("euler-a", 0.5), ("pndm", 0.5)]
)
def test_it_draws_what_diffusers_draws(
    scheduler: str,
    strength: float,
    start: Image.Image,
    coreml_sd_run: Path,
    swift_environment: dict[str, str],
    exact_bundle: Path,
    sd1_folder: Path,
    tmp_path: Path,
) -> None:
    start.save(tmp_path / "start.png")
    command = [
        coreml_sd_run, PROMPT, "--bundle", exact_bundle, "--backend", "litert", "--steps", STEPS,
        "--seed", SEED, "--guidance", "3", "--scheduler", scheduler, "--start-image",
        tmp_path / "start.png", "--strength", strength, "-o", tmp_path / "swift.png",
    ]  # fmt: skip
    subprocess.run([str(word) for word in command], env=swift_environment, check=True)
    swift = np.asarray(Image.open(tmp_path / "swift.png").convert("RGB"), dtype=int)
    theirs = diffusers_pixels(sd1_folder, start, scheduler, strength)
    assert np.abs(theirs - swift).max() <= 1
    later = diffusers_pixels(sd1_folder, start, scheduler, strength + 0.15)
    assert np.abs(later - swift).max() > 1  # a start one step off is noticed
