"""The pure part of the Android sample, compiled and run on a desktop JVM, against the Python side.

`scripts/kotlin` fetches the compiler; without it these tests are left out.
"""

import copy
import functools
import hashlib
import json
import os
import re
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

from coreml_sd.bundle import open_bundle, write_manifest
from coreml_sd.generation.generate import GenerationRequest, Generator
from coreml_sd.generation.prompt import PromptEncoder
from coreml_sd.runtimes.open_runtime import Runtime
from coreml_sd.schedulers.schedulers import (
    begin,
    initial_noise_scale,
    make_scheduler,
    scaled_input,
)

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "examples/android/app/src/main/kotlin/coremlsd/sample"
CHECK = ROOT / "tests/kotlin"
CACHE = Path(os.environ.get("COREML_SD_CACHE", "~/.cache/coreml-sd")).expanduser()
LIBRARIES = CACHE / "kotlin/usr/share/kotlin/kotlinc/lib"
JSON = CACHE / "kotlin/usr/share/java/json-android.jar"
# Compiled and run; the others need LiteRT or Android and are compiled against stubs.
PURE = (
    "Names",
    "Limits",
    "StrictJson",
    "BundleRules",
    "BundleFiles",
    "Manifest",
    "DenoiserFacts",
    "AddedTokens",
    "ClipTokenizer",
    "Scheduler",
    "SchedulerConfig",
    "Supported",
    "NoiseSchedule",
    "Ddim",
    "DpmSolverMultistep",
    "Euler",
    "Pndm",
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
STEPS = (1, 2, 14, 15, 21)
SCHEDULERS = ("dpm++", "dpm++-karras", "ddim", "pndm", "euler")
TABLE = json.loads((ROOT / "tests/fixtures/scheduler_table.json").read_text(encoding="utf-8"))
VECTORS = json.loads((ROOT / "tests/fixtures/schedulers.json").read_text(encoding="utf-8"))
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
    kinds = ("prompts", "schedules", "pictures", "rules", "bundles", "guidances")
    nothing: dict[str, Any] = {kind: [] for kind in kinds}
    asked = {"folder": str(folder), **nothing, **questions}
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


def schedule(name: str, steps: int, config: dict[str, Any]) -> dict[str, Any]:
    """A question: a whole schedule with the predictions and the noise of the golden vectors."""
    generator = torch.Generator().manual_seed(TABLE["seed"])
    return {
        "name": name,
        "steps": steps,
        "config": config,
        "feedback": VECTORS["feedback"],
        "latent": torch.randn(len(VECTORS["predictions"][0]), generator=generator).tolist(),
        "predictions": VECTORS["predictions"][: steps + 1],
    }


@pytest.mark.parametrize("name", ["tokenizer_added", "tokenizer_published"])
def test_added_words_are_found_as_transformers_finds_them(
    android_bundle: Callable[[int], Path], tmp_path: Path, name: str
) -> None:
    fixture = json.loads((ROOT / f"tests/fixtures/{name}.json").read_text(encoding="utf-8"))
    facts = fixture["facts"]
    path = Path(shutil.copytree(android_bundle(2), tmp_path / "copy"))
    change_tokenizer(path, facts)
    answers = ask(tmp_path, path, prompts=fixture["prompts"])["tokens"]
    for index, (prompt, answer) in enumerate(zip(fixture["prompts"], answers, strict=True)):
        ids = fixture["expanded"].get(str(index), fixture["ids"][index])
        framed = [facts["bos_token_id"], *ids[:75], facts["eos_token_id"]]
        framed += [facts["pad_token_id"]] * (77 - len(framed))
        assert answer == {"ids": framed, "cut": fixture["cut"].get(str(index), "")}, prompt
    del facts["added_tokens"]
    change_tokenizer(path, facts)
    plain = ask(tmp_path, path, prompts=fixture["prompts"])["tokens"]
    assert sum(one == other for one, other in zip(plain, answers, strict=True)) < len(plain) / 2


def change_tokenizer(path: Path, facts: dict[str, Any]) -> None:
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    manifest["pipeline"]["tokenizer"] = facts
    manifest.pop("manifest_sha256", None)  # as in a bundle made by hand
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_schedules_are_diffusers_own(android_bundle: Callable[[int], Path], tmp_path: Path) -> None:
    """Every spacing, prediction type and end, at odd and even step counts."""
    ends: list[dict[str, Any]] = [
        {"steps_offset": 1, "set_alpha_to_one": False},
        {"lower_order_final": False, "beta_schedule": "linear"},
        {"final_sigmas_type": "sigma_min"},
        {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
    ]
    cases: list[tuple[str, int, dict[str, Any]]] = [
        (name, steps, {**SCALED, "timestep_spacing": spacing, "prediction_type": kind, **end})
        for name in SCHEDULERS
        for spacing in ("leading", "linspace", "trailing")
        for kind in ("epsilon", "v_prediction", "sample")
        if (name, kind) != ("pndm", "sample")
        for steps in STEPS
        for end in ends
    ]
    configs = [open_bundle(android_bundle(2)).pipeline["scheduler"], {}]
    cases += [(name, 20, config) for name in SCHEDULERS for config in configs]
    questions = [schedule(*case) for case in cases]
    answers = ask(tmp_path, android_bundle(2), schedules=questions)["schedules"]
    for question, answer in zip(questions, answers, strict=True):
        timesteps, latent = walk(question)
        np.testing.assert_allclose(answer["timesteps"], timesteps, rtol=1e-6)
        assert error(answer["latent"], latent) < 1e-5, question["config"]
    another = {**questions[0], "config": {**questions[0]["config"], "beta_end": 0.013}}
    assert error(walk(another)[1].tolist(), walk(questions[0])[1]) > 1e-4


SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def error(actual: list[float], expected: NDArray[np.float32]) -> float:
    return float(np.abs(np.array(actual) - expected).max() / np.abs(expected).max())


def walk(question: dict[str, Any]) -> tuple[list[float], NDArray[np.float32]]:
    """The same schedule by diffusers."""
    scheduler = make_scheduler(question["name"], question["config"])
    begin(scheduler, question["steps"])
    latent = torch.tensor(question["latent"]) * initial_noise_scale(scheduler)
    for timestep, prediction in zip(scheduler.timesteps, question["predictions"], strict=False):
        seen = scaled_input(scheduler, latent, timestep)
        prediction = torch.tensor(prediction) + question["feedback"] * seen
        latent = scheduler.step(prediction, timestep, latent).prev_sample
    return scheduler.timesteps.tolist(), latent.numpy()


def test_the_table_of_schedulers_and_configs_holds_here_too(
    android_bundle: Callable[[int], Path], tmp_path: Path
) -> None:
    pairs = [pair for pair in TABLE["pairs"] if pair["name"] in SCHEDULERS]
    configs = TABLE["configs"]
    refused = [pair for pair in pairs if "refused" in pair]
    runs = [(pair, run) for pair in pairs for run in pair.get("runs", ())]
    questions = [schedule(p["name"], 5, configs[p["config"]]) for p in refused]
    questions += [schedule(p["name"], run["steps"], configs[p["config"]]) for p, run in runs]
    answers = ask(tmp_path, android_bundle(2), schedules=questions)["schedules"]
    for pair, answer in zip(refused, answers, strict=False):
        told = f"scheduler {pair['name']}: the model's {pair['refused']} "
        assert answer.get("refused", "").startswith(told), (pair, answer)
    for (pair, run), answer in zip(runs, answers[len(refused) :], strict=True):
        assert "refused" not in answer, (pair, answer)
        np.testing.assert_allclose(answer["timesteps"], run["timesteps"], rtol=1e-6)
        assert error(answer["latent"], np.array(run["last"])) < 1e-5, pair["config"]
    assert len(refused) > 100 and len(runs) > 500


def test_steps_and_names_that_are_not_there_are_refused(
    android_bundle: Callable[[int], Path], tmp_path: Path
) -> None:
    questions = [schedule("lcm", 4, {}), schedule("ddim", 1000, {"steps_offset": 1})]
    questions += [schedule("dpm++", 1000, {}), schedule("dpm++", 0, {})]
    answers = ask(tmp_path, android_bundle(2), schedules=questions)["schedules"]
    assert [answer["refused"] for answer in answers] == [
        "scheduler lcm: choose from dpm++, dpm++-karras, ddim, pndm, euler",
        "steps = 1000: one lies outside the model's 1000; take fewer steps",
        "steps = 1000: the noise does not fall in each; take fewer steps",
        "steps = 0: give a number from 1 to 1000",
    ]


def changed_bundle(path: Path, place: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy with another manifest, as if made by hand."""
    path = Path(shutil.copytree(path, place))
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    manifest.pop("manifest_sha256", None)
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return path


def test_two_text_encoders_are_refused_in_one_line(
    android_bundle: Callable[[int], Path], tmp_path: Path
) -> None:
    """Told by the denoiser, or by the second tokenizer of a manifest that tells none."""

    def told(manifest: dict[str, Any]) -> None:
        pipeline = manifest["pipeline"]
        pipeline["tokenizer_2"] = pipeline["tokenizer"]
        (output,) = pipeline["denoiser"]["conditions"]["encoder_hidden_states"]["outputs"]
        output["component"] = "text_encoder_2"

    def untold(manifest: dict[str, Any]) -> None:
        told(manifest)
        del manifest["pipeline"]["denoiser"]

    def another(manifest: dict[str, Any]) -> None:
        untold(manifest)
        manifest["pipeline"]["family"] = "stable-diffusion-xl"

    changes = (told, untold, another)
    bundles = [
        str(changed_bundle(android_bundle(2), tmp_path / change.__name__, change))
        for change in changes
    ]
    answers = ask(tmp_path, android_bundle(2), bundles=bundles)["bundles"]
    assert answers == [
        "this app has one text encoder, and pipeline.denoiser.conditions.encoder_hidden_states "
        "asks for text_encoder_2; copy another bundle",
        "this app has one text encoder, and pipeline.tokenizer_2 stands for a second one; copy "
        "another bundle",
        "pipeline.family is stable-diffusion-xl, and pipeline.denoiser does not say what it takes; "
        "without it this app draws with stable-diffusion, mobile-diffusion; copy another bundle",
    ]


def test_the_guidance_is_embedded_as_diffusers_does_it(
    android_bundle: Callable[[int], Path], tmp_path: Path
) -> None:
    fixture = ROOT / "tests/fixtures/guidance_embedding.json"
    golden = list(json.loads(fixture.read_text(encoding="utf-8")).values())
    asked = [*golden, {"guidance": 1.0, "width": 3}]
    *answers, odd = ask(tmp_path, android_bundle(2), guidances=asked)["guidances"]
    for expected, answer in zip(golden, answers, strict=True):
        np.testing.assert_allclose(answer, expected["embedding"], atol=2e-4)
    assert odd == [0.0, 1.0, 0.0]
    assert np.abs(np.array(answers[0]) - golden[1]["embedding"]).max() > 0.1


def test_limits_are_those_of_the_other_languages() -> None:
    table = json.loads((ROOT / "tests/fixtures/limits.json").read_text(encoding="utf-8"))
    source = (SOURCES / "Limits.kt").read_text(encoding="utf-8")
    here = dict(re.findall(r"const val (\w+) = ([\w.]+)", source))
    assert len(here) > 15
    for name, value in here.items():
        assert float(value) == table[name.lower()], name


RULES = json.loads((ROOT / "tests/fixtures/bundle_rules.json").read_text(encoding="utf-8"))


def rules(kind: str) -> dict[str, dict[str, Any]]:
    return {name: rule for name, rule in RULES.items() if name.startswith(kind)}


def edited(rule: dict[str, Any]) -> str:
    """The demo's manifest with the edits of its values, or of its text."""
    text = (ROOT / "tests/fixtures/manifest-demo.json").read_text(encoding="utf-8")
    if "find" in rule:
        return text.replace(rule["find"], rule["put"], 1)
    manifest = json.loads(text)
    for edit in rule["edits"]:
        place = manifest
        for key in edit["at"][:-1]:
            place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
        if edit.get("remove"):
            del place[edit["at"][-1]]
        else:
            place[edit["at"][-1]] = edit["value"]
    return json.dumps(manifest)


def follows(rule: dict[str, Any], answer: str | None) -> bool:
    if not rule["refused"]:
        return answer is None
    return answer is not None and rule["names"] in answer and "\n" not in answer


def test_the_rules_of_manifests_hold_here_too(
    android_bundle: Callable[[int], Path], tmp_path: Path
) -> None:
    cases = {**rules("edit:"), **rules("text:")}
    (tmp_path / "bundle").mkdir()
    questions = [
        {"folder": str(tmp_path / "bundle"), "manifest": edited(rule)} for rule in cases.values()
    ]
    answers = ask(tmp_path, android_bundle(2), rules=questions)["rules"]
    wrong = {
        name: answer
        for (name, rule), answer in zip(cases.items(), answers, strict=True)
        if not follows(rule, answer)
    }
    assert not wrong and len(cases) > 150


def small_bundle(parent: Path) -> Path:
    """The files that the changes of the rules are about; `unet` has a network of each target."""
    bundle = parent / "bundle"
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    contents = {
        "Unet.mlpackage/Manifest.json": "{}",
        "Unet.mlpackage/Data/model.mlmodel": "program",
        "Unet.tflite": "network",
        "vocab.json": json.dumps(vocabulary),
        "merges.txt": "#version: 0.2\n",
    }
    manifest = json.loads(edited({"edits": []}))
    unet: dict[str, Any] = {"inputs": [], "outputs": []}
    networks = {"Unet.mlpackage": "coreml", "Unet.tflite": "tflite"}
    entries = [{"path": path, "target": target, **unet} for path, target in networks.items()]
    manifest["components"] = {"unet": {**unet, "files": entries}}
    manifest["files"] = {}
    for path, text in contents.items():
        file = bundle / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        manifest["files"][path] = {"sha256": digest, "bytes": len(text)}
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return bundle


def change(bundle: Path, what: dict[str, str]) -> None:
    match what:
        case {"write": path, "text": text}:
            (bundle / path).write_text(text, encoding="utf-8")
        case {"remove": path}:
            (bundle / path).unlink()
        case {"folder": path}:
            (bundle / path).mkdir()
        case {"pipe": path}:
            os.mkfifo(bundle / path)
        case {"move": path, "to": to}:
            (bundle / path).rename(bundle / to)
        case {"link": path, "to": to}:
            (bundle / path).symlink_to(to)
        case _:
            raise AssertionError(what)


def test_the_rules_of_files_hold_here_too(
    android_bundle: Callable[[int], Path], tmp_path: Path
) -> None:
    cases = rules("files:")
    bundles = []
    for number, rule in enumerate(cases.values()):
        bundles.append(small_bundle(tmp_path / str(number)))
        for what in rule["changes"]:
            change(bundles[-1], what)
    answers = ask(tmp_path, android_bundle(2), bundles=[str(path) for path in bundles])["bundles"]
    wrong = {
        name: answer
        for (name, rule), answer in zip(cases.items(), answers, strict=True)
        if not follows(rule, answer)
    }
    assert not wrong and len(cases) > 14


def test_a_manifest_that_was_changed_since_it_was_sealed_is_refused(
    android_bundle: Callable[[int], Path], tmp_path: Path
) -> None:
    for name in ("intact", "changed", "unsealed"):
        shutil.copytree(android_bundle(2), tmp_path / name)
    text = (tmp_path / "intact/manifest.json").read_text(encoding="utf-8")
    assert text.count('"notes": []') == 1
    changed = text.replace('"notes": []', '"notes": ["x"]')
    (tmp_path / "changed/manifest.json").write_text(changed, encoding="utf-8")
    unsealed = {k: v for k, v in json.loads(changed).items() if k != "manifest_sha256"}
    (tmp_path / "unsealed/manifest.json").write_text(json.dumps(unsealed), encoding="utf-8")
    bundles = [str(tmp_path / name) for name in ("intact", "changed", "unsealed")]
    intact, told, by_hand = ask(tmp_path, android_bundle(2), bundles=bundles)["bundles"]
    assert intact is None and by_hand is None
    assert "manifest.json: changed since the conversion" in told


class Formula:
    """The networks of Check.kt in numpy."""

    def __init__(self, component: str, facts: dict[str, Any]) -> None:
        self.component, self.facts = component, facts
        rows = facts["batch"] if component == "unet" else 1  # those for few steps take one
        self.inputs = {"sample": SimpleNamespace(shape=(rows,))}

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if self.component == "text_encoder":
            ids = inputs["input_ids"][:, :, None]
            tokens, channels = np.arange(ids.shape[1])[:, None], np.arange(4)
            return {
                "last_hidden_state": (ids + channels * tokens).astype(np.float32) / 1000,
                "pooled_outputs": ids[:, :3, 0].astype(np.float32) / 1000,
            }
        if self.component.startswith("unet"):
            told = np.sin(20 * inputs["encoder_hidden_states"][:, 1, 0, 2]) / 10
            told = told + np.sin(inputs["timestep"] / 100) / 10
            for name in inputs.keys() - {"sample", "timestep", "encoder_hidden_states"}:
                told = told + np.sin(inputs[name][:, 1]) / 10
            part = 2 if self.component == "unet" else 4
            return {"noise_pred": inputs["sample"] / part + told[:, None, None, None]}
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


@pytest.mark.parametrize(
    ("batch", "guidance", "scheduler"),
    [(1, 1.0, "dpm++"), (1, 4.0, "euler"), (2, 1.0, None), (2, 4.0, "dpm++"), (2, 4.0, "pndm")],
)
def test_a_picture_is_the_python_sides(
    android_bundle: Callable[[int], Path],
    tmp_path: Path,
    batch: int,
    guidance: float,
    scheduler: str | None,
) -> None:
    """Tokens, layout of embeddings, guidance in either batch, scheduling, decoding to pixels."""
    path = android_bundle(batch)
    request = GenerationRequest("a rocket", NEGATIVE, 6, guidance, 3, scheduler)
    [answer] = ask(tmp_path, path, pictures=[question(path, request)])["pictures"]
    expected = drawn(path, request).astype(int)
    assert np.abs(pixels(answer) - expected).max() <= 1  # the last bit of a sum may round otherwise
    assert np.ptp(expected) > 50
    another = GenerationRequest("a zebra", NEGATIVE, 6, guidance, 3, scheduler)
    assert np.abs(pixels(answer) - drawn(path, another).astype(int)).max() > 1


def as_latent_consistency(manifest: dict[str, Any]) -> None:
    """A family that nobody knows, whose denoiser is told guidance, size and a pooled text."""
    pipeline, components = manifest["pipeline"], manifest["components"]
    text = {"component": "text_encoder", "output": "pooled_outputs"}
    more = {
        "timestep_cond": {"kind": "guidance", "width": 8},
        "time_ids": {"kind": "size"},
        "text_embeds": {"kind": "text", "outputs": [text]},
    }
    pipeline["family"] = "novel"
    pipeline["denoiser"]["guidance"] = "embedded"
    pipeline["denoiser"]["conditions"] |= more
    for name in more:
        tensor = {"name": name, "shape": [pipeline["batch"], 8], "dtype": "float16"}
        components["unet"]["inputs"].append(tensor)
        for file in components["unet"]["files"]:
            file["inputs"].append(name)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_denoiser_takes_what_the_manifest_says(
    android_bundle: Callable[[int], Path], tmp_path: Path, batch: int
) -> None:
    """As the Python side draws it: the negative prompt makes no difference, the guidance does."""
    path = changed_bundle(android_bundle(batch), tmp_path / "copy", as_latent_consistency)
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    write_manifest(path, manifest)
    requests = [
        GenerationRequest("a rocket", negative, 6, guidance, 3, "dpm++")
        for guidance, negative in ((4.0, NEGATIVE), (4.0, ""), (1.5, ""))
    ]
    asked = [question(path, request) for request in requests]
    first, second, third = ask(tmp_path, path, pictures=asked)["pictures"]
    assert np.abs(pixels(first) - drawn(path, requests[0]).astype(int)).max() <= 1
    assert first["pixels"] == second["pixels"]
    assert np.abs(pixels(first) - pixels(third)).max() > 1


def with_few_steps(manifest: dict[str, Any]) -> None:
    """A denoiser for one step, and one for four that is told the guidance."""
    pipeline, components = manifest["pipeline"], manifest["components"]
    few_steps = []
    for steps, guidance in ((1, "none"), (4, "embedded")):
        name = f"unet_{steps}"
        denoiser = {**copy.deepcopy(pipeline["denoiser"]), "component": name, "guidance": guidance}
        components[name] = copy.deepcopy(components["unet"])
        inputs = components[name]["inputs"]
        for tensor in inputs:
            tensor["shape"][0] = 1
        if guidance == "embedded":
            denoiser["conditions"]["timestep_cond"] = {"kind": "guidance", "width": 8}
            inputs.append({"name": "timestep_cond", "shape": [1, 8], "dtype": "float16"})
            for file in components[name]["files"]:
                file["inputs"].append("timestep_cond")
        few_steps.append({"steps": steps, "denoiser": denoiser})
    pipeline["few_steps"] = few_steps


@pytest.mark.parametrize("batch", [1, 2])
def test_the_steps_say_which_denoiser_draws(
    android_bundle: Callable[[int], Path], tmp_path: Path, batch: int
) -> None:
    path = changed_bundle(android_bundle(batch), tmp_path / "copy", with_few_steps)
    write_manifest(path, json.loads((path / "manifest.json").read_text(encoding="utf-8")))
    drawn_by = {1: "unet_1", 2: "unet_4", 4: "unet_4", 5: "unet"}
    for steps, unet in drawn_by.items():
        request = GenerationRequest("a rocket", NEGATIVE, steps, 4.0, 3, "dpm++")
        [answer] = ask(tmp_path, path, pictures=[question(path, request)])["pictures"]
        assert f"open {unet}" in answer["log"], steps
        assert np.abs(pixels(answer) - drawn(path, request).astype(int)).max() <= 1, steps


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        (["last_hidden_state", "pooled_outputs"], "text_embeds joins states and pooled outputs"),
        (["novel"], "text_encoder gives last_hidden_state, pooled_outputs, not novel"),
        (None, "unet takes sample, timestep, encoder_hidden_states, timestep_cond, time_ids, text"),
    ],
)
def test_conditions_that_do_not_fit_the_networks_are_refused(
    android_bundle: Callable[[int], Path],
    tmp_path: Path,
    condition: list[str] | None,
    told: str,
) -> None:
    def unfit(manifest: dict[str, Any]) -> None:
        as_latent_consistency(manifest)
        conditions = manifest["pipeline"]["denoiser"]["conditions"]
        if condition is None:
            del conditions["time_ids"]
        else:
            outputs = [{"component": "text_encoder", "output": name} for name in condition]
            conditions["text_embeds"]["outputs"] = outputs

    path = changed_bundle(android_bundle(2), tmp_path / "copy", unfit)
    request = GenerationRequest("a rocket", "", 6, 3.0, 3, "dpm++")
    source = android_bundle(2)
    asked = {**question(source, request), "folder": str(path)}
    [answer] = ask(tmp_path, source, pictures=[asked])["pictures"]
    assert answer["failed"].startswith("BundleException: ") and told in answer["failed"]


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
