"""The pure part of the Android sample, compiled and run on a desktop JVM, against the Python side.

`scripts/kotlin` fetches the compiler; without it these tests are left out.
"""

import functools
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from coreml_sd.bundle import open_bundle
from coreml_sd.denoising.schedulers import make_scheduler
from coreml_sd.generate import GenerationRequest, Generator
from coreml_sd.prompt import PromptEncoder
from coreml_sd.runtimes.open_runtime import Runtime

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "examples/android/app/src/main/kotlin/coremlsd/sample"
CHECK = ROOT / "tests/kotlin"
CACHE = Path(os.environ.get("COREML_SD_CACHE", "~/.cache/coreml-sd")).expanduser()
LIBRARIES = CACHE / "kotlin/usr/share/kotlin/kotlinc/lib"
JSON = CACHE / "kotlin/usr/share/java/json-android.jar"
# Compiled and run; the others need LiteRT or Android and are compiled against stubs.
PURE = (
    "Names",
    "Manifest",
    "ClipTokenizer",
    "Scheduler",
    "Ddim",
    "DpmSolverMultistep",
    "Network",
    "Generator",
)
STUBBED = ("LiteRtNetwork", "MainActivity")

pytestmark = pytest.mark.skipif(
    not LIBRARIES.is_dir() or shutil.which("java") is None,
    reason="no Kotlin compiler; scripts/kotlin fetches one",
)

PROMPTS = [
    "a zebra on a blue background",
    "",
    "A  Photo\tof\u00a0an\u3000OWL's 3 hats!!! it's I'll",
    "caf\u00e9 na\u00efve \u0130stanbul \u00df \u03a3\u0391\u03a3 stra\u1e9ee",
    "\u4e2d\u6587\u5b57 \U0001f600 emoji \u0e01\u0e33",
    "e\u0301 combining",
    "(((masterpiece:1.2))), [x]_y, 100% <lora:a>",
    "a snowman on a red background " * 40,
    "<|endoftext|> a <|startoftext|>b",
    "\u00bd \u2167 x\u00b2 \u0663 a\u200bb\u0085c\u180ed",
]
STEPS = (1, 2, 7, 14, 15, 20, 50)
NEGATIVE = "an owl on a purple background"


def kotlin(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Kotlin's compiler."""
    preloader = ["java", "-Xmx1g", "-cp", str(LIBRARIES / "kotlin-preloader.jar")]
    compiler = ["-cp", str(LIBRARIES / "kotlin-compiler.jar")]
    main = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
    return subprocess.run(
        [*preloader, "org.jetbrains.kotlin.preloading.Preloader", *compiler, main, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )


def compiled(files: list[Path], folder: Path, library: Path | None = None, *options: str) -> Path:
    path = os.pathsep.join(map(str, filter(None, (JSON, library))))
    done = kotlin(
        "-nowarn", "-jvm-target", "1.8", "-cp", path, *options, "-d", str(folder), *map(str, files)
    )
    assert done.returncode == 0, done.stderr
    return folder


@functools.cache
def classes() -> Path:
    """The pure sources and their check, compiled once for a state of the sources."""
    files = [SOURCES / f"{name}.kt" for name in PURE] + [CHECK / "Check.kt"]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = CACHE / "kotlin-classes" / digest
    if not folder.is_dir():
        partial = folder.with_name(f"{digest}.partial-{os.getpid()}")
        compiled(files, partial)
        try:
            partial.rename(folder)
        except OSError:  # another worker was first
            shutil.rmtree(partial)
    return folder


def ask(place: Path, folder: Path, **questions: Any) -> dict[str, Any]:
    """Let the Kotlin side answer; `folder` is a bundle, `place` a folder to write to."""
    asked = {"folder": str(folder), "prompts": [], "schedules": [], "pictures": [], **questions}
    (place / "questions.json").write_text(json.dumps(asked), encoding="utf-8")
    path = os.pathsep.join(map(str, (classes(), LIBRARIES / "kotlin-stdlib.jar", JSON)))
    files = (str(place / name) for name in ("questions.json", "answers.json"))
    environment = {**os.environ, "JAVA_TOOL_OPTIONS": "-Dfile.encoding=UTF-8"}
    done = subprocess.run(
        ["java", "-cp", path, "coremlsd.sample.CheckKt", *files],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads((place / "answers.json").read_text(encoding="utf-8"))
    return answers


def test_tokens_are_those_of_the_python_side(
    android_bundle: Callable[[int], Path], tmp_path: Path
) -> None:
    bundle = open_bundle(android_bundle(2))
    answers = ask(tmp_path, bundle.path, prompts=PROMPTS)["tokens"]
    encoder = PromptEncoder(bundle.path, bundle.pipeline["tokenizer"])
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        expected = encoder.encode(prompt)
        assert answer == {"ids": expected.ids[0].astype(int).tolist(), "cut": expected.cut}, prompt
    assert len({str(answer["ids"]) for answer in answers}) == len(PROMPTS)


def test_schedules_are_diffusers_own(android_bundle: Callable[[int], Path], tmp_path: Path) -> None:
    """Every spacing, prediction type and end, at odd and even step counts, random predictions."""
    random = np.random.default_rng(0)
    ends: list[dict[str, Any]] = [
        {"steps_offset": 1, "set_alpha_to_one": False},
        {"lower_order_final": False, "beta_schedule": "linear"},
        {"final_sigmas_type": "sigma_min"},
        {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
    ]
    cases: list[tuple[str, int, dict[str, Any]]] = [
        (name, steps, {**SCALED, "timestep_spacing": spacing, "prediction_type": kind, **end})
        for name in ("dpm++", "ddim")
        for spacing in ("leading", "linspace", "trailing")
        for kind in ("epsilon", "v_prediction", "sample")
        for steps in STEPS
        for end in ends
    ]
    demo = open_bundle(android_bundle(2)).pipeline["scheduler"]
    cases += [(name, 20, config) for name in ("dpm++", "ddim") for config in (demo, {})]
    questions = [
        {
            "name": name,
            "steps": steps,
            "config": config,
            "latent": random.standard_normal(6).tolist(),
            "predictions": random.standard_normal((steps, 6)).tolist(),
        }
        for name, steps, config in cases
    ]
    answers = ask(tmp_path, android_bundle(2), schedules=questions)["schedules"]
    for question, answer in zip(questions, answers, strict=True):
        timesteps, latent = walk(question)
        assert answer["timesteps"] == timesteps
        distance = np.abs(np.array(answer["latent"]) - latent).max() / np.abs(latent).max()
        assert distance < 1e-4, question["config"]
    another = {**questions[0], "config": {**questions[0]["config"], "beta_end": 0.013}}
    assert not np.allclose(walk(another)[1], answers[0]["latent"], rtol=1e-4)


SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def walk(question: dict[str, Any]) -> tuple[list[int], NDArray[np.float32]]:
    """The same schedule by diffusers."""
    scheduler = make_scheduler(question["name"], question["config"])
    scheduler.set_timesteps(question["steps"])
    latent = torch.tensor([question["latent"]])
    for timestep, prediction in zip(scheduler.timesteps, question["predictions"], strict=True):
        latent = scheduler.step(torch.tensor([prediction]), timestep, latent).prev_sample
    return scheduler.timesteps.tolist(), latent.numpy()[0]


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("dpm++", {"use_karras_sigmas": True}),
        ("dpm++", {"solver_type": "heun"}),
        ("ddim", {"beta_schedule": "squaredcos_cap_v2"}),
        ("ddim", {"rescale_betas_zero_snr": True}),
        ("ddim", {"trained_betas": [0.1]}),
        ("euler", {}),
    ],
)
def test_what_would_change_the_picture_is_refused(
    android_bundle: Callable[[int], Path], tmp_path: Path, name: str, config: dict[str, Any]
) -> None:
    question = {"name": name, "steps": 1, "config": config, "latent": [0.0], "predictions": [[0.0]]}
    [answer] = ask(tmp_path, android_bundle(2), schedules=[question])["schedules"]
    assert set(answer) == {"refused"}


def test_another_family_is_refused(android_bundle: Callable[[int], Path], tmp_path: Path) -> None:
    path = Path(shutil.copytree(android_bundle(2), tmp_path / "copy"))
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    manifest["pipeline"]["family"] = "stable-diffusion-xl"
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    message = r"draws with stable-diffusion, mobile-diffusion, not with .*-xl; copy"
    with pytest.raises(AssertionError, match=message):
        ask(tmp_path, path, prompts=PROMPTS[:1])


class Formula:
    """The networks of Check.kt in numpy."""

    def __init__(self, component: str, facts: dict[str, Any]) -> None:
        self.component, self.facts = component, facts
        rows = facts["batch"] if component == "unet" else 1
        self.inputs = {"sample": SimpleNamespace(shape=(rows,))}

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if self.component == "text_encoder":
            ids = inputs["input_ids"][:, :, None]
            tokens, channels = np.arange(ids.shape[1])[:, None], np.arange(4)
            return {"last_hidden_state": (ids + channels * tokens).astype(np.float32) / 1000}
        if self.component == "unet":
            told = np.sin(20 * inputs["encoder_hidden_states"][:, 1, 0, 2]) / 10
            told = told + np.sin(inputs["timestep"] / 100) / 10
            return {"noise_pred": inputs["sample"] / 2 + told[:, None, None, None]}
        times = self.facts["size"][0] // self.facts["latent_size"][0]
        large = inputs["z"][:, :3].repeat(times, axis=2).repeat(times, axis=3)
        return {"image": large / 4}


def drawn(path: Path, request: GenerationRequest) -> NDArray[np.uint8]:
    bundle = open_bundle(path)
    runtime = Runtime("formula", "", lambda name: Formula(name, bundle.pipeline))  # type: ignore[arg-type,return-value]
    return Generator(bundle, runtime)(request).pixels


def question(path: Path, request: GenerationRequest, **more: Any) -> dict[str, Any]:
    facts = open_bundle(path).pipeline
    shape = (1, facts["latent_channels"], *facts["latent_size"])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed))
    return {
        "folder": str(path),
        "prompt": request.prompt,
        "negative": request.negative_prompt,
        "steps": request.steps,
        "guidance": request.guidance,
        "scheduler": request.scheduler,
        "noise": noise.flatten().tolist(),
        **more,
    }


def pixels(answer: dict[str, Any]) -> NDArray[np.int64]:
    """0xAARRGGBB, row by row, to `(H, W, 3)`."""
    packed = np.array(answer["pixels"]).reshape(answer["height"], answer["width"])
    assert ((packed >> 24) & 255 == 255).all()
    return np.stack([(packed >> shift) & 255 for shift in (16, 8, 0)], axis=-1)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_picture_is_the_python_sides(
    android_bundle: Callable[[int], Path], tmp_path: Path, batch: int, guidance: float
) -> None:
    """Tokens, layout of embeddings, guidance in either batch, scheduling, decoding to pixels."""
    path = android_bundle(batch)
    request = GenerationRequest("a rocket", NEGATIVE, 6, guidance, 3, "dpm++")
    [answer] = ask(tmp_path, path, pictures=[question(path, request)])["pictures"]
    expected = drawn(path, request).astype(int)
    assert np.abs(pixels(answer) - expected).max() <= 1  # the last bit of a sum may round otherwise
    assert np.ptp(expected) > 50
    another = GenerationRequest("a zebra", NEGATIVE, 6, guidance, 3, "dpm++")
    assert np.abs(pixels(answer) - drawn(path, another).astype(int)).max() > 1


def story(android_bundle: Callable[[int], Path], tmp_path: Path, **more: Any) -> dict[str, Any]:
    path = android_bundle(2)
    request = GenerationRequest("a rocket", "", 6, 3.0, 3, "dpm++")
    asked = question(path, request, **more)
    [answer] = ask(tmp_path, path, pictures=[asked])["pictures"]
    return answer


def test_networks_are_opened_late_and_closed_early(
    android_bundle: Callable[[int], Path], tmp_path: Path
) -> None:
    """T1.8: the text encoder is gone before the UNet comes; the decoder comes in the last steps."""
    log = story(android_bundle, tmp_path)["log"]
    assert log[:3] == ["open text_encoder", "close text_encoder", "open unet"]
    assert log.index("step 4") < log.index("open vae_decoder")
    assert log[-2:] == ["close vae_decoder", "close unet"]
    late = story(android_bundle, tmp_path, preload=0)["log"]
    assert late[-4:] == ["step 6", "open vae_decoder", "close vae_decoder", "close unet"]


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ({"stop_after": 2}, {"stopped": True}),
        ({"stop_after": 5}, {"stopped": True}),
        ({"fails": "vae_decoder"}, {"failed": "BundleException: vae_decoder does not open"}),
        ({"fails": "unet"}, {"failed": "BundleException: unet does not open"}),
        (
            {"overflows": True},
            {
                "failed": "OverflowException: the latent holds NaN or infinity; "
                "let the GPU compute in 32 bits"
            },
        ),
    ],
)
def test_whatever_happens_every_network_is_closed(
    android_bundle: Callable[[int], Path],
    tmp_path: Path,
    trouble: dict[str, Any],
    told: dict[str, Any],
) -> None:
    answer = story(android_bundle, tmp_path, **trouble)
    log = answer.pop("log")
    assert answer == told
    opened = [line.split()[1] for line in log if line.startswith("open")]
    closed = [line.split()[1] for line in log if line.startswith("close")]
    assert sorted(closed) == sorted(set(opened) - {trouble.get("fails")})


def test_the_rest_compiles_against_stubs_of_litert_and_android(tmp_path: Path) -> None:
    stubs = sorted((CHECK / "stubs").rglob("*.kt"))
    sources = sorted(SOURCES.glob("*.kt"))
    assert {file.stem for file in sources} == {*PURE, *STUBBED}
    rest = [file for file in sources if file.stem in STUBBED]
    friends = f"-Xfriend-paths={classes()}"
    compiled([*stubs, *rest], tmp_path / "right", classes(), friends)
    wrong = tmp_path / "LiteRtNetwork.kt"
    text = (SOURCES / wrong.name).read_text(encoding="utf-8")
    wrong.write_text(text.replace("createInputBuffer(", "makeInputBuffer("), encoding="utf-8")
    path = os.pathsep.join(map(str, (JSON, classes(), tmp_path / "right")))
    done = kotlin("-cp", path, friends, "-d", str(tmp_path / "wrong"), str(wrong))
    assert done.returncode != 0 and "makeInputBuffer" in done.stderr


@pytest.mark.parametrize(
    ("row", "expected"), [("| compiled and run |", PURE), ("| compiled against stubs |", STUBBED)]
)
def test_the_readme_says_what_was_done(row: str, expected: tuple[str, ...]) -> None:
    text = (ROOT / "examples/android/README.md").read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if line.startswith(row)]
    named = {name.strip(" `").removesuffix(".kt") for name in line.split("|")[2].split(",")}
    assert named == set(expected)
