"""Pictures from .tflite files: near those of torch and of Core ML, never from a damaged file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from coreml_sd.bundle import Bundle, open_bundle, write_manifest
from coreml_sd.errors import UserError
from coreml_sd.generation.generate import GenerationRequest, Generator
from coreml_sd.metrics import psnr_db
from coreml_sd.report import measure as report
from coreml_sd.report.html import render
from coreml_sd.report.parity_report import ParityReport
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.runtimes.open_runtime import open_runtime
from tests.helpers.command import Run, runner

DRAW = ("a cat", "--steps", 3, "--seed", 5, "--guidance", 4)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capfd)


@pytest.fixture
def copy(both_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return Path(shutil.copytree(both_bundle, tmp_path / "copy.bundle"))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=np.float64)


class TestGenerate:
    def test_it_draws_what_torch_draws(self, run: Run, both_bundle: Path, tmp_path: Path) -> None:
        """int8 weights are nearer than the 6-bit palettes of the Core ML files."""
        pictures = {}
        for runtime in ("torch", "mil", "litert"):
            path = tmp_path / f"{runtime}.png"
            done = run("generate", *DRAW, "--bundle", both_bundle, "--runtime", runtime, "-o", path)
            assert done.status == 0, done.err
            pictures[runtime] = pixels(path)
        assert psnr_db(pictures["torch"], pictures["litert"]) > 45
        assert psnr_db(pictures["mil"], pictures["litert"]) > 35
        np.testing.assert_array_equal(pictures["litert"], draw(both_bundle, 5))  # --seed
        assert not np.array_equal(pictures["litert"], draw(both_bundle, 6))
        assert psnr_db(pictures["torch"], pictures["mil"]) < psnr_db(
            pictures["torch"], pictures["litert"]
        )

    def test_the_picture_says_how_it_was_made(
        self, run: Run, both_bundle: Path, tmp_path: Path
    ) -> None:
        done = run(
            "generate", *DRAW, "--bundle", both_bundle, "--runtime", "litert",
            "-o", tmp_path / "cat.png",
        )  # fmt: skip
        assert "run by LiteRT on the CPU (XNNPACK)" in done.err
        picture = Image.open(tmp_path / "cat.png")
        assert picture.size == (16, 16)
        assert picture.text["runtime"] == "litert" and picture.text["seed"] == "5"

    def test_the_same_seed_gives_the_same_picture(self, both_bundle: Path) -> None:
        first, again = draw(both_bundle, 5), draw(both_bundle, 5)
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, draw(both_bundle, 6))

    def test_a_bundle_for_android_alone_is_drawn_by_litert(self, both_bundle: Path) -> None:
        bundle = restricted(both_bundle, "tflite")
        assert open_runtime(bundle).name == "litert"
        with pytest.raises(UserError, match=r"no coreml files \(it holds tflite\) for the mil run"):
            open_runtime(bundle, "mil")

    def test_a_bundle_for_core_ml_alone_says_what_to_do(self, both_bundle: Path) -> None:
        with pytest.raises(UserError, match="convert again with --target tflite"):
            open_runtime(restricted(both_bundle, "coreml"), "litert")


def restricted(path: Path, target: str) -> Bundle:
    """The bundle as if it had been made for one target."""
    manifest = open_bundle(path, check=False).manifest
    return Bundle(path, {**manifest, "config": {**manifest["config"], "targets": [target]}})


def draw(path: Path, seed: int) -> np.ndarray:
    bundle = open_bundle(path, check=False)
    request = GenerationRequest("a cat", steps=3, guidance=4.0, seed=seed)
    return Generator(bundle, open_runtime(bundle, "litert"))(request).pixels


class TestAccelerators:
    def test_an_unknown_one_is_named(self, run: Run, both_bundle: Path) -> None:
        arguments = ("--bundle", both_bundle, "--runtime", "litert", "--accelerator", "npu")
        run("generate", "a cat", *arguments).refused("accelerator npu: choose from cpu, gpu")

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Vulkan is Linux's")
    def test_a_gpu_that_is_not_there_is_said(self, both_bundle: Path) -> None:
        """In its own process: the delegate keeps what it found at its first try."""
        script = (
            "import sys; from pathlib import Path\n"
            "from coreml_sd.runtimes.litert.network import LiteRTNetwork\n"
            "from coreml_sd.errors import UserError\n"
            "try: LiteRTNetwork(Path(sys.argv[1]), accelerator='gpu')\n"
            "except UserError as error: print(error)"
        )
        nowhere = {"VK_DRIVER_FILES": "/nowhere.json", "VK_ICD_FILENAMES": "/nowhere.json"}
        done = subprocess.run(
            [sys.executable, "-c", script, str(both_bundle / "TextEncoder.tflite")],
            capture_output=True,
            text=True,
            env={**os.environ, **nowhere},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("no GPU here: ") and "use the CPU" in done.stdout
        assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def measured(both_bundle: Path) -> ParityReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "measure_memory", lambda *_: None)  # tests/memory
        return report.measure(open_bundle(both_bundle), prompts=["a cat", "a dog"])


class TestReport:
    def test_every_component_has_a_row_for_each_target(self, measured: ParityReport) -> None:
        assert measured.passed
        rows = [(entry.component, entry.target) for entry in measured.compared]
        names = ("text_encoder", "unet", "vae_decoder", "vae_encoder")
        files = [(name, target) for name in names for target in ("coreml", "tflite")]
        assert rows == [("bundle", "manifest"), ("pipeline", "diffusers"), *files]

    def test_every_picture_is_drawn_three_ways(self, measured: ParityReport) -> None:
        """From the source by torch, from the Core ML files by mil, from the TFLite files."""
        assert [runtime.name for runtime in measured.runtimes] == ["mil", "litert"]
        assert [row.request.prompt for row in measured.pictures] == ["a cat", "a dog"]
        for row in measured.pictures:
            assert row.source.shape == (16, 16, 3)
            assert row.converted.keys() == {"mil", "litert"}
            assert row.psnr("litert") > 50 and row.psnr("mil") > 40

    def test_the_json_holds_all_of_it(self, measured: ParityReport) -> None:
        facts = json.loads(json.dumps(measured.to_json()))
        assert facts["runtimes"].keys() == {"mil", "litert"}
        assert all(row["psnr_db"].keys() == {"mil", "litert"} for row in facts["pictures"])
        assert "tflite has no palettes: --palettize 6 becomes int8 weights" in facts["notes"]

    def test_the_html_shows_all_of_it(self, measured: ParityReport) -> None:
        html = render(measured)
        assert html.count("data:image/png;base64,") == 2 * (1 + 2 * 2)
        for said in ("unet, coreml", "unet, tflite", "becomes int8 weights", "run by LiteRT"):
            assert said in html


class TestChangedFiles:
    """LiteRT may crash on a damaged file: the checksums stop it before."""

    @pytest.mark.parametrize(
        "arguments",
        [("parity",), ("generate", "a cat", "--runtime", "litert", "--bundle"), ("inspect",)],
        ids=lambda arguments: arguments[0],
    )
    def test_a_changed_byte_is_refused(
        self, run: Run, copy: Path, arguments: tuple[str, ...]
    ) -> None:
        file = copy / "Unet.tflite"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(bytes(data))
        run(*arguments, copy).refused("Unet.tflite: changed since the conversion")

    def test_a_truncated_file_is_refused(self, run: Run, copy: Path) -> None:
        file = copy / "TextEncoder.tflite"
        file.write_bytes(file.read_bytes()[:-1])
        run("parity", copy).refused("TextEncoder.tflite: changed since the conversion")

    def test_a_missing_file_is_refused(self, run: Run, copy: Path) -> None:
        (copy / "VAEDecoder.tflite").unlink()
        run("parity", copy).refused("VAEDecoder.tflite: missing from the bundle")

    def test_signed_again_it_fails_its_gate(self, run: Run, copy: Path) -> None:
        """Keys and values change places: nothing that a reader or LiteRT could notice."""
        swap(copy / "Unet.tflite", "attn1.to_k", "attn1.to_v")
        write_manifest(copy, json.loads((copy / "manifest.json").read_text()))
        done = run("parity", copy, "--no-pictures")
        assert done.status == 1 and "a gate failed" in done.err


def swap(path: Path, first: str, second: str) -> None:
    """The stored weights of two layers of one size, exchanged in the file."""
    file = TFLiteFile(path)
    ops = [op for op in file.graphs[0].ops if op.kind == "DEQUANTIZE"]
    weights = [
        next(
            file.data(given).tobytes()
            for op in ops
            if op.layer.endswith(layer) and (given := op.inputs[0])
        )
        for layer in (first, second)
    ]
    data = path.read_bytes()
    places = [data.index(weight) for weight in weights]
    changed = bytearray(data)
    for place, weight in zip(places, reversed(weights), strict=True):
        changed[place : place + len(weight)] = weight
    path.write_bytes(bytes(changed))
