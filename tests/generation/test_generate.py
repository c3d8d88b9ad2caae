"""Prompt to picture: same seed same picture, every scheduler, every runtime, batch 1 and 2."""

import copy
import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from coreml_sd.bundle import Bundle, open_bundle, write_manifest
from coreml_sd.cli.generate import command
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.files.limits import LIMITS
from coreml_sd.generation.generate import GeneratedImage, GenerationRequest, Generator
from coreml_sd.generation.prompt import PromptEncoder
from coreml_sd.metrics import psnr_db
from coreml_sd.runtimes.base import TensorInfo
from coreml_sd.runtimes.open_runtime import open_runtime
from coreml_sd.schedulers.schedulers import NAMES, make_scheduler
from tests.helpers.diffusers_pipeline import diffusers_pipeline

REQUEST = GenerationRequest("a cat", negative_prompt="dog", steps=3, guidance=4.0, seed=5)


def draw(path: Path, request: GenerationRequest = REQUEST, runtime: str = "mil") -> np.ndarray:
    bundle = open_bundle(path, check=False)
    return Generator(bundle, open_runtime(bundle, runtime))(request).pixels


def drawn_by_diffusers(pipeline: Any, **settings: Any) -> Any:
    """`REQUEST` drawn by a pipeline of diffusers: `(H, W, 3)`, 0 to 1."""
    return pipeline(
        REQUEST.prompt,
        negative_prompt=REQUEST.negative_prompt,
        num_inference_steps=REQUEST.steps,
        guidance_scale=REQUEST.guidance,
        generator=torch.Generator().manual_seed(REQUEST.seed),
        output_type="np",
        **settings,
    ).images[0]


def draw_with_unet(unet: Bundle, others: Path, request: GenerationRequest) -> np.ndarray:
    """With the files of a bundle that has the UNet only, and another's for the rest."""
    runtime = open_runtime(unet, "mil")
    rest = open_runtime(open_bundle(others, check=False), "mil")
    opens = {"unet": runtime.open}
    mixed = dataclasses.replace(runtime, open=lambda name: opens.get(name, rest.open)(name))
    return Generator(unet, mixed)(request).pixels


def test_the_same_seed_gives_the_same_picture(sd1_bundle: Path) -> None:
    first, second = draw(sd1_bundle), draw(sd1_bundle)
    np.testing.assert_array_equal(first, second)
    assert first.shape == (16, 16, 3) and first.dtype == np.uint8
    other = dataclasses.replace(REQUEST, seed=6)
    assert not np.array_equal(first, draw(sd1_bundle, other))


def test_the_torch_runtime_equals_diffusers_own_pipeline(
    sd1_folder: Path, sd1_bundle: Path
) -> None:
    """Independent of everything of ours: tokens, guidance, scheduling and decoding."""
    pipeline = diffusers_pipeline(StableDiffusionPipeline, sd1_folder)
    expected = drawn_by_diffusers(pipeline)
    request = GenerationRequest("a cat", "dog", 3, 4.0, 5, "ddim")
    actual = draw(sd1_bundle, request, "torch")
    assert np.abs(actual - np.rint(expected * 255)).max() <= 1


def test_the_files_draw_nearly_what_the_source_draws(
    sd1_bundle: Path, sd1_fp16_bundle: Path
) -> None:
    source = draw(sd1_bundle, runtime="torch").astype(float)
    assert psnr_db(source, draw(sd1_fp16_bundle)) > 45


# Class and settings that diffusers' documentation gives for each name.
DRAWN_WITH: dict[str, tuple[Any, dict[str, Any]]] = {
    "dpm++": (diffusers.DPMSolverMultistepScheduler, {}),
    "dpm++-karras": (diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "ddim": (diffusers.DDIMScheduler, {}),
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler-a": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
    "lcm": (diffusers.LCMScheduler, {}),
    "tcd": (diffusers.TCDScheduler, {}),
}


def test_every_scheduler_has_a_picture_of_diffusers() -> None:
    assert {*DRAWN_WITH, "flow-match-euler"} == set(NAMES)  # which no model here was trained for


@pytest.mark.parametrize("name", list(DRAWN_WITH))
def test_every_scheduler_draws_what_diffusers_draws(
    sd1_folder: Path, sd1_bundle: Path, name: str
) -> None:
    kind, settings = DRAWN_WITH[name]
    pipeline = diffusers_pipeline(StableDiffusionPipeline, sd1_folder)
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **settings)
    # TCD's own eta; the pipeline would give it DDIM's.
    expected = drawn_by_diffusers(pipeline, eta=0.3 if name == "tcd" else 0.0)
    request = dataclasses.replace(REQUEST, scheduler=name)
    actual = draw(sd1_bundle, request, "torch")
    assert np.abs(actual - np.rint(expected * 255)).max() <= 1
    assert psnr_db(actual.astype(float), draw(sd1_bundle, request)) > 30


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_a_latent_is_scaled_and_shifted_back(sd1_bundle: Path, shift: float) -> None:
    """As diffusers' pipelines of VAEs with a shift do: z = latent / scaling + shift."""
    bundle = open_bundle(sd1_bundle, check=False)
    facts = {**bundle.pipeline, "scaling_factor": 0.5, "shift_factor": shift}
    changed = dataclasses.replace(bundle, manifest={**bundle.manifest, "pipeline": facts})
    seen: dict[str, Any] = {}

    class Decoder:
        def __init__(self) -> None:
            self.inputs: dict[str, Any] = {}
            self.outputs: dict[str, Any] = {}

        def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
            seen.update(inputs)
            return {"image": np.zeros((1, 3, 16, 16), np.float32)}

        def close(self) -> None:
            pass

    runtime = dataclasses.replace(open_runtime(bundle, "mil"), open=lambda name: Decoder())
    latent = np.array([-1.0, 0.0, 2.0], np.float32)
    Generator(changed, runtime)._decode(latent)
    np.testing.assert_allclose(seen["z"], latent / 0.5 + shift)


def advised(path: Path, scheduler: str | None) -> Bundle:
    """A bundle whose manifest advises a scheduler; None as older manifests have it."""
    bundle = open_bundle(path)
    manifest = copy.deepcopy(bundle.manifest)
    manifest["pipeline"]["scheduler"]["_class_name"] = "PNDMScheduler"
    advice = manifest["pipeline"]["advice"]
    del advice["scheduler"]
    if scheduler:
        advice["scheduler"] = scheduler
    return dataclasses.replace(bundle, manifest=manifest)


def test_the_default_scheduler_is_the_one_advised(sd1_bundle: Path) -> None:
    plain = GenerationRequest("a cat", "dog", 3, 4.0, 5)
    other = GenerationRequest("a cat", "dog", 3, 4.0, 5, "dpm++")
    runtime = open_runtime(open_bundle(sd1_bundle), "mil")
    for name, scheduler in (("ddim", "ddim"), (None, "pndm")):
        picture = Generator(advised(sd1_bundle, name), runtime)(plain).pixels
        told = GenerationRequest("a cat", "dog", 3, 4.0, 5, scheduler)
        np.testing.assert_array_equal(picture, draw(sd1_bundle, told))
        assert (picture != draw(sd1_bundle, other)).any()


def test_the_command_says_where_the_nearest_scheduler_is_taken(
    sd1_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "advised.bundle"
    shutil.copytree(sd1_bundle, folder)
    write_manifest(folder, advised(folder, "pndm").manifest)
    target = str(tmp_path / "cat.png")
    arguments = ["a cat", "--bundle", str(folder), "--steps", "1", "-o", target]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    assert "PNDMScheduler without skip_prk_steps" in " ".join(done.stderr.split())
    told = CliRunner().invoke(command, [*arguments, "--scheduler", "ddim"])
    assert told.exit_code == 0 and "skip_prk_steps" not in told.stderr


def test_a_unet_of_batch_one_draws_the_same(
    sd1_folder: Path, sd1_fp16_bundle: Path, tmp_path: Path
) -> None:
    config = ConversionConfig(model=str(sd1_folder), batch=1, components=["unet"])
    one = convert(config, tmp_path / "one", verify=False)
    picture = draw_with_unet(one, sd1_fp16_bundle, REQUEST).astype(float)
    assert psnr_db(picture, draw(sd1_fp16_bundle)) > 45
    other = dataclasses.replace(REQUEST, seed=6)
    assert psnr_db(picture, draw(sd1_fp16_bundle, other)) < 45


def test_guidance_of_one_ignores_the_negative_prompt(sd1_bundle: Path) -> None:
    plain = GenerationRequest("a cat", "", 2, 1.0)
    other = GenerationRequest("a cat", "something else", 2, 1.0)
    np.testing.assert_array_equal(draw(sd1_bundle, plain), draw(sd1_bundle, other))


def test_tokens_equal_transformers_own(sd1_folder: Path, sd1_bundle: Path) -> None:
    facts = open_bundle(sd1_bundle, check=False).pipeline["tokenizer"]
    ours = PromptEncoder(sd1_bundle, facts)
    theirs = CLIPTokenizer.from_pretrained(sd1_folder / "tokenizer")
    for text in (
        "",
        "a cat",
        "A CAT, cats & 42 dogs!",
        "na\u00efve caf\u00e9 \U0001f993",
        "x" * 500,
    ):
        expected = theirs(text, padding="max_length", max_length=77, truncation=True)["input_ids"]
        assert ours.encode(text).ids[0].astype(int).tolist() == expected


def test_what_does_not_fit_is_shown(sd1_bundle: Path) -> None:
    facts = open_bundle(sd1_bundle, check=False).pipeline["tokenizer"]
    encoder = PromptEncoder(sd1_bundle, facts)
    assert encoder.encode("cat " * 75).cut == ""
    assert encoder.encode("cat " * 77).cut == "cat cat"


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        GenerationRequest("  ")
    with pytest.raises(UserError, match="steps = 0"):
        GenerationRequest("a cat", steps=0)
    with pytest.raises(UserError, match="unknown; choose from"):
        make_scheduler("magic", {})
    with pytest.raises(UserError, match="prediction_type is epsilon, not that of a model"):
        make_scheduler("flow-match-euler", {"prediction_type": "epsilon"})


def test_a_bundle_without_a_unet_says_so(sd1_folder: Path, tmp_path: Path) -> None:
    config = ConversionConfig(model=str(sd1_folder), components=["text_encoder"])
    bundle = convert(config, tmp_path / "b", verify=False)
    with pytest.raises(UserError, match="no unet in this bundle"):
        draw(bundle.path)


def with_network(bundle: Bundle, name: str, network: Any) -> Generator:
    """A generator in which one component is another network."""
    runtime = open_runtime(bundle, "mil")
    opens = dataclasses.replace(
        runtime, open=lambda wanted: network if wanted == name else runtime.open(wanted)
    )
    return Generator(bundle, opens)


class Gives:
    """A network that gives the same whatever it is given; `inputs` are those of a UNet."""

    def __init__(self, output: str, value: Any) -> None:
        self.outputs, self._given = {output: None}, {output: np.asarray(value, np.float32)}
        self.inputs = {"sample": TensorInfo("sample", (2, 4, 8, 8), "float32")}

    def run(self, given: dict[str, Any]) -> dict[str, Any]:
        return self._given

    def close(self) -> None:
        pass


def test_pixels_are_rounded_to_the_nearest(sd1_bundle: Path) -> None:
    """-1 is 0, 1 is 255, and what lies beyond is cut."""
    values = [-9.0, -1.0, 20.4 / 127.5 - 1, 20.6 / 127.5 - 1, 0.9 / 127.5, 1.0, 9.0]
    decoder = Gives("image", np.array(values).reshape(1, 1, 1, 7).repeat(3, axis=1))
    bundle = open_bundle(sd1_bundle, check=False)
    generator = with_network(bundle, "vae_decoder", decoder)
    picture = generator._decode(np.zeros((1, 4, 8, 8), np.float32))
    assert picture.shape == (1, 7, 3) and picture.dtype == np.uint8
    assert picture[0, :, 0].tolist() == [0, 0, 20, 21, 128, 255, 255]


@pytest.mark.parametrize(
    ("name", "output", "shape", "message"),
    [
        ("unet", "noise_pred", (2, 4, 8, 8), "the latent holds NaN or inf"),
        ("vae_decoder", "image", (1, 3, 16, 16), "the picture holds NaN or inf"),
    ],
)
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_no_number_is_not_drawn(
    sd1_bundle: Path, name: str, output: str, shape: tuple[int, ...], message: str, broken: float
) -> None:
    """One number is enough."""
    values = np.zeros(shape, np.float32)
    values[:, 0, 1, 1] = broken
    bundle = open_bundle(sd1_bundle, check=False)
    with pytest.raises(CoremlSDError, match=message):
        with_network(bundle, name, Gives(output, values))(REQUEST)


def test_requests_have_limits() -> None:
    GenerationRequest("a cat", steps=LIMITS.steps, guidance=-LIMITS.guidance, seed=(1 << 64) - 1)
    for wrong in (
        {"steps": LIMITS.steps + 1},
        {"guidance": LIMITS.guidance * 1.01},
        {"guidance": -LIMITS.guidance * 1.01},
        {"guidance": float("nan")},
        {"seed": 1 << 64},
        {"seed": -(1 << 63) - 1},
    ):
        with pytest.raises(UserError, match=f"{next(iter(wrong))} = "):
            GenerationRequest("a cat", **wrong)


def test_the_command_asks_for_what_its_flags_say(
    sd1_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[GenerationRequest] = []

    def draw(self: Any, request: GenerationRequest, on_step: Any) -> GeneratedImage:
        asked.append(request)
        return GeneratedImage(np.zeros((16, 16, 3), np.uint8), "", 0.0)

    monkeypatch.setattr(Generator, "__call__", draw)
    plain = ["a cat", "--bundle", str(sd1_bundle), "-o", str(tmp_path / "cat.png")]
    flags = ["--steps", "2", "--guidance", "3.5", "--seed", "7", "-n", "2"]
    flags += ["--negative", "dog", "--scheduler", "euler"]
    for arguments in ([*plain, *flags], plain):
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == 0, done.output
    first = GenerationRequest("a cat", "dog", 2, 3.5, 7, "euler")
    advice = open_bundle(sd1_bundle, check=False).pipeline["advice"]
    by_default = GenerationRequest(
        "a cat", "", advice["steps"], advice["guidance"], 0, advice["scheduler"]
    )
    assert asked == [first, dataclasses.replace(first, seed=8), by_default]
