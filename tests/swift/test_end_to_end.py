"""Swift and Python draw the same picture from the same bundle, prompt, seed and scheduler."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coreml_sd.bundle import open_bundle
from coreml_sd.generation.generate import GenerationRequest, Generator
from coreml_sd.runtimes.open_runtime import open_runtime
from coreml_sd.schedulers.schedulers import NAMES

FLOW_MATCHING = "flow-match-euler"  # for models that the demo is not


def python_pixels(bundle: Path, **request: Any) -> np.ndarray:
    generator = Generator(opened := open_bundle(bundle), open_runtime(opened, "litert"))
    try:
        return generator(GenerationRequest(**request)).pixels.astype(int)
    finally:
        generator.close()


def swift_pixels(
    tool: Path, environment: dict[str, str], bundle: Path, output: Path, **request: Any
) -> np.ndarray:
    words = [request.pop("prompt")]
    for name, value in request.items():
        words += [f"--{name.removesuffix('_prompt').replace('_', '-')}", str(value)]
    command = [str(tool), *words, "--bundle", str(bundle), "--backend", "litert", "-o", str(output)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.asarray(Image.open(output).convert("RGB"), dtype=int)


@pytest.mark.parametrize("scheduler", [name for name in NAMES if name != FLOW_MATCHING])
def test_every_scheduler_draws_the_same_picture(
    scheduler: str,
    coreml_sd_run: Path,
    swift_environment: dict[str, str],
    demo_bundle: Path,
    tmp_path: Path,
) -> None:
    request = {
        "prompt": "a zebra on a blue background",
        "scheduler": scheduler,
        "steps": 6 if scheduler in ("lcm", "tcd") else 12,
        "seed": 3,
        "guidance": 3.0,
    }
    swift = swift_pixels(
        coreml_sd_run, swift_environment, demo_bundle, tmp_path / "s.png", **request
    )
    python = python_pixels(demo_bundle, **request)
    assert np.abs(swift - python).max() <= 1
    other = python_pixels(demo_bundle, **{**request, "seed": 4})
    assert np.abs(swift - other).max() > 1  # the comparison can fail


@pytest.mark.parametrize(
    ("prompt", "negative_prompt", "seed", "guidance"),
    [
        ("a strawberry on a white background", "", 0, 3.0),
        ("an OWL, on a purple   background!", "blurry", 1, 5.0),
        ("a rocket on a black background", "", 4_294_967_295, 1.0),
        ("ein Wal \u2014 naïve 🐳 on a green background", "a red background", 42, 3.0),
    ],
)
def test_every_prompt_draws_the_same_picture(
    prompt: str,
    negative_prompt: str,
    seed: int,
    guidance: float,
    coreml_sd_run: Path,
    swift_environment: dict[str, str],
    demo_bundle: Path,
    tmp_path: Path,
) -> None:
    request = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "seed": seed,
        "guidance": guidance,
        "steps": 10,
        "scheduler": "dpm++",
    }
    swift = swift_pixels(
        coreml_sd_run, swift_environment, demo_bundle, tmp_path / "s.png", **request
    )
    assert np.abs(swift - python_pixels(demo_bundle, **request)).max() <= 1


@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_mobile_diffusion_draws_the_same_picture(
    guidance: float,
    coreml_sd_run: Path,
    swift_environment: dict[str, str],
    md_bundle: Path,
    tmp_path: Path,
) -> None:
    """Eight latent channels, other networks behind the same names."""
    request = {
        "prompt": "a cat",
        "negative_prompt": "dog",
        "seed": 5,
        "guidance": guidance,
        "steps": 6,
        "scheduler": "ddim",
    }
    swift = swift_pixels(coreml_sd_run, swift_environment, md_bundle, tmp_path / "s.png", **request)
    assert np.abs(swift - python_pixels(md_bundle, **request)).max() <= 1
    other = python_pixels(md_bundle, **{**request, "seed": 6})
    assert np.abs(swift - other).max() > 1


def test_the_picture_says_how_it_was_made_and_json_tells_how_it_goes(
    coreml_sd_run: Path, swift_environment: dict[str, str], demo_bundle: Path, tmp_path: Path
) -> None:
    target = tmp_path / "cat.png"
    command = [
        str(coreml_sd_run), "a cat", "--bundle", str(demo_bundle), "--backend", "litert",
        "--steps", "3", "--seed", "5", "--json", "-o", str(target),
    ]  # fmt: skip
    done = subprocess.run(
        command, env=swift_environment, capture_output=True, text=True, check=True
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 2, 3]
    assert all(0 <= e["fraction"] <= 1 for e in events if e["event"] == "loading")
    assert events[-1]["event"] == "finished" and events[-1]["path"] == str(target)
    assert events[-1]["report"]["backend"] == "litert"
    text = Image.open(target).text
    assert (text["prompt"], text["seed"], text["runtime"]) == ("a cat", "5", "litert")
