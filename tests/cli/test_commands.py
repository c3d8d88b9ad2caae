"""The command line: one clear line and status 2 for the user's mistake, nothing left behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from coreml_sd.bundle import write_manifest
from coreml_sd.errors import one_line
from tests.helpers.command import Done, Run, runner

run = pytest.fixture(runner)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, without the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def model(sd1_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(sd1_folder, tmp_path / "model"))


def weights(model: Path, part: str) -> Path:
    return next((model / part).glob("*.safetensors"))


def truncate(model: Path) -> None:
    file = weights(model, "unet")
    file.write_bytes(file.read_bytes()[:-100])


def poison(value: float) -> Any:
    def change(model: Path) -> None:
        file = weights(model, "text_encoder")
        tensors = load_file(file)
        tensors[sorted(tensors)[0]].view(-1)[0] = value
        save_file(tensors, file)

    return change


def drop_weight(model: Path) -> None:
    file = weights(model, "text_encoder")
    tensors = load_file(file)
    del tensors[sorted(tensors)[0]]
    save_file(tensors, file)


def set_json(relative: str, **changes: object) -> Any:
    def change(model: Path) -> None:
        content = json.loads((model / relative).read_text())
        (model / relative).write_text(json.dumps({**content, **changes}))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncate, "truncated or damaged"),
        (poison(float("nan")), "holds NaN or inf"),
        (poison(float("inf")), "holds NaN or inf"),
        (drop_weight, "weights do not fit the config"),
        (lambda m: weights(m, "unet").unlink(), "no safetensors weights"),
        (lambda m: (m / "model_index.json").unlink(), "no model_index.json"),
        (lambda m: (m / "unet/config.json").write_text("{"), "not a JSON file"),
        (lambda m: (m / "tokenizer/merges.txt").unlink(), "no vocab.json with merges.txt"),
        (set_json("model_index.json", _class_name="FluxPipeline"), "FluxPipeline is not supported"),
        (set_json("unet/config.json", in_channels=9), "inpainting"),
        (set_json("unet/config.json", cross_attention_dim=48), "differ"),
        (set_json("unet/config.json", center_input_sample=True), "center_input_sample"),
    ],
)
def test_a_damaged_model_is_named(
    run: Run, model: Path, tmp_path: Path, change: Any, message: str
) -> None:
    change(model)
    out = tmp_path / "out"
    out.mkdir()
    run("convert", model, "-o", out / "b").refused(message)
    assert list(out.iterdir()) == []
    if message != "holds NaN or inf":  # which only reading every weight would tell
        run("convert", model, "--dry-run").refused(message)


def test_a_patch_that_there_is_none_of_is_refused_before_any_work(
    run: Run, sd1_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COREML_SD_PLAIN", "no-such-patch")
    run("convert", sd1_folder, "--dry-run").refused("COREML_SD_PLAIN")


def test_a_single_file_that_is_no_model_is_refused(run: Run, tmp_path: Path) -> None:
    for name, told in (("dream.safetensors", "truncated or damaged"), ("dream.ckpt", "a pickle")):
        (tmp_path / name).write_bytes(b"weights")
        run("convert", tmp_path / name).refused(told)


def test_a_mistyped_command_is_guessed(run: Run) -> None:
    done = run("genrate", "a cat")
    assert done.status == 2 and "did you mean 'generate'?" in done.err


def test_a_picture_of_another_size(run: Run, sd1_bundle: Path) -> None:
    done = run("generate", "a cat", "--bundle", sd1_bundle, "--size", "32x32")
    done.refused("the size is fixed at conversion")
    assert "draws 16x16" in done.err


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    command = [sys.executable, "-m", "coreml_sd.cli.main", "doctor"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--palettize", "5"], "choose from 1, 2, 3, 4, 6, 8"),
        (["--palettize", "3"], "need iOS18"),
        (["--size", "30x30"], "multiples of 8"),
        (["--attention", "flash"], "choose from split-einsum"),
        (["--config", "absent.toml"], "missing"),
        (["--batch", "3"], "choose from 1, 2"),
    ],
)
def test_a_wrong_flag_is_named(
    run: Run, sd1_folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    run("convert", sd1_folder, *arguments).refused(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "no such folder"),
        ("nobody/nothing", "no such folder here, not in the hub cache"),
        ("just-a-name", "no such folder"),
    ],
)
def test_a_model_that_is_not_there(run: Run, tmp_path: Path, name: str, message: str) -> None:
    run("convert", name).refused(message)


def test_an_output_that_is_not_empty(run: Run, sd1_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/keep.txt").write_text("x")
    run("convert", sd1_folder, "-o", "out").refused("not empty")
    run("convert", sd1_folder, "-o", "out", "--overwrite").refused("not a bundle")
    assert (tmp_path / "out/keep.txt").exists()


def test_a_dry_run_prints_a_config_that_can_be_fed_back(
    run: Run, sd1_folder: Path, tmp_path: Path
) -> None:
    done = run("convert", sd1_folder, "--palettize", 4, "--dry-run")
    assert done.status == 0
    file = tmp_path / "config.toml"
    file.write_text(done.out)
    again = run("convert", "--config", file, "--dry-run")
    assert again.out == done.out and 'size = "16x16"' in done.out
    for told in ("time", "memory", "disk", "text_encoder", "vae_decoder", "all"):
        assert told in done.err and "GB" not in done.out
    assert [p.name for p in tmp_path.iterdir()] == ["config.toml"]


def test_generate_writes_a_picture_that_says_how_it_was_made(
    run: Run, sd1_bundle: Path, tmp_path: Path
) -> None:
    done = run(
        "generate", "a cat", "--bundle", sd1_bundle, "--steps", 2, "--seed", 3, "-o", "cat.png"
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "evaluated from the file, not run by Core ML" in done.err
    picture = Image.open(tmp_path / "cat.png")
    assert picture.size == (16, 16)
    assert picture.text["prompt"] == "a cat" and picture.text["seed"] == "3"
    assert picture.text["runtime"] == "mil" and picture.text["config"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["  "], "the prompt is empty"),
        (["a cat", "--scheduler", "magic"], "scheduler magic: unknown"),
        (["a cat", "--runtime", "npu"], "runtime npu: unknown"),
        (["a cat", "--steps", "0"], "steps = 0"),
    ],
)
def test_generate_refuses(
    run: Run, sd1_bundle: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    run("generate", *arguments, "--bundle", sd1_bundle).refused(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML exists here")
def test_core_ml_is_refused_where_it_does_not_exist(
    run: Run, sd1_bundle: Path, tmp_path: Path
) -> None:
    run("generate", "x", "--runtime", "coreml", "--bundle", sd1_bundle).refused("needs macOS")


def test_an_over_long_prompt_is_cut_with_a_warning(
    run: Run, sd1_bundle: Path, tmp_path: Path
) -> None:
    prompt = "cat " * 80
    done = run("generate", prompt, "--bundle", sd1_bundle, "--steps", 1, "-o", "c.png")
    assert done.status == 0
    assert "over 77 tokens" in done.err and "cat cat" in done.err


def test_a_changed_byte_or_a_newer_manifest_is_refused(
    run: Run, sd1_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(sd1_bundle, tmp_path / "b"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "manifest_version": 2}))
    run("parity", bundle).refused("update coreml-sd")
    write_manifest(bundle, manifest)
    file = bundle / "VAEDecoder.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    run("generate", "x", "--bundle", bundle).refused("weight.bin: changed")
    run("inspect", bundle).refused("weight.bin: changed")


def test_inspect_counts_what_the_model_has(
    run: Run, sd1_bundle: Path, sd1_folder: Path, tmp_path: Path
) -> None:
    bundle = json.loads(run("inspect", sd1_bundle, "--json").out)
    model = json.loads(run("inspect", sd1_folder, "--json").out)
    of_bundle = bundle["components"]["unet"]["coreml"]
    of_model = model["components"]["unet"]["mobile form"]
    expected = sum(t.numel() for t in load_file(weights(sd1_folder, "unet")).values())
    assert of_model["parameters"] == expected
    # The file also stores the sinusoid's frequencies, and the shortest biases inside the program.
    assert of_bundle["parameters"] == pytest.approx(expected, rel=1e-3)
    assert of_bundle["macs"] == of_model["macs"]
    assert of_bundle["seams"][0]["tensors"]
    drawn = [each["pictures"][form] for each, form in ((bundle, "coreml"), (model, "mobile form"))]
    assert [c["macs"] for c in drawn[0]] == [c["macs"] for c in drawn[1]]
    assert [c["steps"] for c in drawn[0]] == [1, 8, 20]


def test_parity_reports_and_passes(run: Run, sd1_bundle: Path, tmp_path: Path) -> None:
    done = run("parity", sd1_bundle, "--no-pictures", "--json", "p.json", "--html", "p.html")
    assert done.status == 0, done.err
    report, html = json.loads((tmp_path / "p.json").read_text()), (tmp_path / "p.html").read_text()
    assert report["passed"] is True and html.startswith("<!doctype html>")
    twenty = report["picture_costs"]["coreml"][-1]
    assert twenty["steps"] == 20 and f"{twenty['macs'] / 1e9:,.1f} G" in html


def test_doctor_shows_versions_and_runtimes(run: Run, tmp_path: Path) -> None:
    done = run("doctor")
    assert done.status == 0, done.out
    assert "coremltools" in done.out and "runtimes" in done.out


def test_the_process_ends_with_the_status(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "coreml_sd.cli.main", "convert", "./nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    Done(done.returncode, done.stdout, done.stderr).refused("no such folder")


def test_a_message_cannot_steer_the_terminal() -> None:
    assert one_line("a\nb\x1b[31m\x07 \u2028c") == "a b\\x1b[31m\\x07 c"
    assert one_line("naïve 猫: 'x'") == "naïve 猫: 'x'"
