"""Conversion for Android: both targets from one config, every profile, and plain refusals."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from coreml_sd.bundle import Bundle, open_bundle
from coreml_sd.config import ConversionConfig, from_dict
from coreml_sd.conversion.convert import convert
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.report.html import render
from coreml_sd.report.measure import measure
from coreml_sd.runtimes.litert import extra
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.runtimes.mil import MilPackage
from coreml_sd.targets.tflite import quantize
from coreml_sd.targets.tflite.profiles import PROFILES
from coreml_sd.targets.tflite.settings import settings_of
from tests.helpers.command import Run, runner
from tests.helpers.shared_folder import SharedFolder
from tests.helpers.tiny_tflite import TinyFiles

COUNTS = ("parameters_before", "parameters_after", "macs_before", "macs_after")
FILES = ("TextEncoder", "Unet", "VAEDecoder", "VAEEncoder")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capfd)


def config(folder: Path, **changes: Any) -> ConversionConfig:
    return ConversionConfig(model=str(folder), **{"targets": ["tflite"], **changes})


def stored_as(bundle: Bundle) -> dict[str, str]:
    return {
        name: file["quantization"]
        for name, entry in bundle.components.items()
        for file in entry["files"]
        if file["target"] == "tflite"
    }


class TestBothTargets:
    def test_one_bundle_holds_the_files_of_both(self, both_bundle: Path) -> None:
        bundle = open_bundle(both_bundle)
        assert bundle.targets == ["coreml", "tflite"]
        assert {path.name for path in both_bundle.glob("*.tflite")} == {
            f"{name}.tflite" for name in (*FILES, "SchedulerStep")
        }
        assert {path.name for path in both_bundle.glob("*.mlpackage")} == {
            f"{name}.mlpackage" for name in FILES
        }
        assert not list(both_bundle.glob("*.fp32"))

    def test_names_of_inputs_and_outputs_are_the_same_on_both(self, both_bundle: Path) -> None:
        for entry in open_bundle(both_bundle).components.values():
            (file,) = [file for file in entry["files"] if file["target"] == "tflite"]
            assert file["inputs"] == [spec["name"] for spec in entry["inputs"]]
            outputs = [spec["name"] for spec in entry["outputs"]]
            assert file["outputs"] == [name for name in outputs if name != "pooled_outputs"]

    def test_every_gate_of_both_was_passed_and_stored(self, both_bundle: Path) -> None:
        for entry in open_bundle(both_bundle).components.values():
            assert entry["parity"].keys() == {"coreml", "tflite"}
            for part in entry["parity"].values():
                assert all(check["passed"] for check in part["checks"])
                assert part["headline"] in [check["name"] for check in part["checks"]]

    def test_palettes_become_int8_and_it_is_said(self, both_bundle: Path) -> None:
        bundle = open_bundle(both_bundle)
        assert stored_as(bundle) == {
            "text_encoder": "int8",
            "unet": "int8",
            "vae_decoder": "fp16",
            "vae_encoder": "fp16",
        }
        assert bundle.manifest["notes"] == [
            "tflite has no palettes: --palettize 6 becomes int8 weights",
            "tflite: the VAE keeps fp16 weights",
        ]

    def test_the_manifest_says_what_an_app_must_know(self, both_bundle: Path) -> None:
        bundle = open_bundle(both_bundle)
        packages = bundle.manifest["tool"]["packages"]
        assert {"coremltools", "litert-torch", "ai-edge-quantizer"} <= packages.keys()
        for entry in bundle.components.values():
            (file,) = [file for file in entry["files"] if file["target"] == "tflite"]
            assert file["weight_bytes"] == TFLiteFile(both_bundle / file["path"]).weight_bytes()
            assert entry["ops"]["CONV_2D"] > 0 and entry["splits"] == []
            assert file["path"] in bundle.manifest["files"]

    def test_the_stored_config_reproduces_the_files(
        self, both_bundle: Path, tmp_path: Path, quick_export: None
    ) -> None:
        first = open_bundle(both_bundle)
        again = dataclasses.replace(from_dict(first.manifest["config"]), targets=["tflite"])
        second = convert(again, tmp_path / "again.bundle", verify=False)
        for name in FILES:
            file = f"{name}.tflite"
            assert second.manifest["files"][file] == first.manifest["files"][file]


class TestTFLiteAlone:
    def test_coremltools_is_not_needed(
        self, sd1_folder: Path, tmp_path: Path, quick_export: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither by the module that converts, nor by a conversion without it."""
        script = "import sys, coreml_sd.conversion.convert; assert 'coremltools' not in sys.modules"
        subprocess.run([sys.executable, "-c", script], check=True)
        ours = [name for name in sys.modules if name.startswith("coreml_sd.targets.coreml")]
        for name in ("coremltools", "coreml_sd.targets.coreml", *ours):
            monkeypatch.setitem(sys.modules, name, None)  # importing it is an error from here on
        convert(config(sd1_folder, components=["text_encoder"]), tmp_path / "b")
        assert (tmp_path / "b/TextEncoder.tflite").is_file()

    @pytest.mark.parametrize("name", PROFILES)
    def test_every_profile_converts_and_passes(
        self, request: pytest.FixtureRequest, name: str, tmp_path: Path, quick_export: None
    ) -> None:
        """Profiles that clip GELU on the second family, whose text encoder has one too; others
        share files of this run, but for the CPU's."""
        clipped = PROFILES[name].gelu == "clipped"
        usual = "short_folder" if name == "cpu" else "sd1_folder"
        folder = request.getfixturevalue("sd2_folder" if clipped else usual)
        components = (
            ["text_encoder", "unet"] if clipped else ["text_encoder", "unet", "vae_decoder"]
        )
        bundle = convert(
            config(folder, android_profile=name, components=components), tmp_path / "b"
        )
        wanted = PROFILES[name].quantization
        expected = {c: wanted if c != "vae_decoder" else "fp16" for c in components}
        assert stored_as(bundle) == expected
        kinds = TFLiteFile(bundle.path / "Unet.tflite").op_counts().keys()
        assert ("GELU" in kinds) != clipped and ({"MINIMUM", "MAXIMUM"} <= kinds) == clipped
        checks = bundle.components["unet"]["parity"]["tflite"]["checks"]
        assert ("tanh GELU against the source" in [c["name"] for c in checks]) == clipped

    def test_without_verify_nothing_is_executed(
        self, sd1_folder: Path, tmp_path: Path, quick_export: None
    ) -> None:
        small = config(sd1_folder, components=["text_encoder"])
        bundle = convert(small, tmp_path / "b", verify=False)
        assert bundle.components["text_encoder"]["parity"] == {}

    def test_a_gate_that_fails_leaves_no_bundle(
        self, sd1_folder: Path, tmp_path: Path, quick_export: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The quantizer does something else than was asked for."""
        true_recipe = quantize.recipe
        monkeypatch.setattr(quantize, "recipe", lambda asked, ops: true_recipe("dynamic-int8", ops))
        wrong = config(sd1_folder, components=["text_encoder"], quantize="int8")
        with pytest.raises(
            CoremlSDError, match=r"text_encoder: .* \(gate .* for tflite .*; the bun"
        ):
            convert(wrong, tmp_path / "b")
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def pruned(short_folder: Path, shared_folder: SharedFolder, tiny_files: TinyFiles) -> Bundle:
    asked = config(short_folder, targets=["coreml", "tflite"], components=["unet"], prune=0.1)
    return open_bundle(shared_folder.once("pruned.bundle", lambda path: convert(asked, path)))


class TestPruning:
    def test_both_targets_get_the_smaller_network(self, pruned: Bundle) -> None:
        facts = pruned.components["unet"]["pruning"]
        assert 0.1 <= 1 - facts["parameters_after"] / facts["parameters_before"] < 0.25
        assert 0 < facts["macs_after"] < facts["macs_before"]
        assert 5 < facts["source_db"] < 80
        tensors = TFLiteFile(pruned.path / "Unet.tflite").graphs[0].tensors
        in_tflite = {tensor.shape for tensor in tensors if tensor.is_constant}
        package = MilPackage(pruned.path / "Unet.mlpackage")
        in_core_ml = {values.shape for _, values in package.decoded_weights()}
        assert facts["layers"]
        for layer in facts["layers"]:
            kept, kernel = layer["channels_after"], 3 if layer["kind"] == "residual" else 1
            assert kept < layer["channels_before"] and kept % 32 == 0
            assert (64, kernel, kernel, kept) in in_tflite
            assert (64, kept, kernel, kernel) in in_core_ml

    def test_what_it_did_is_reported(self, short_folder: Path, pruned: Bundle) -> None:
        report = measure(pruned, prompts=[])
        assert report.passed
        (said,) = [note for note in report.notes if note.startswith("unet: ")]
        facts = pruned.components["unet"]["pruning"]
        for figure in (*(f"{facts[key]:,}" for key in COUNTS), f"{facts['source_db']:.1f} dB"):
            assert figure in said
        assert said in report.to_json()["notes"] and said in render(report)

    def test_nothing_to_take_is_the_users_mistake(
        self, run: Run, sd1_folder: Path, tmp_path: Path
    ) -> None:
        done = run(
            "convert", sd1_folder, "--target", "tflite", "--prune", 0.5, "-o", tmp_path / "b"
        )
        done.refused("prune = 0.5")


class TestRefusals:
    @pytest.mark.parametrize("module", ["litert_torch", "ai_edge_quantizer"])
    def test_a_missing_extra_names_the_pip_command(
        self,
        run: Run,
        sd1_folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        module: str,
    ) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(
            extra.importlib.util, "find_spec", lambda name: None if name == module else find(name)
        )
        done = run("convert", sd1_folder, "--target", "coreml,tflite", "-o", tmp_path / "b")
        done.refused(f"({module} is missing): pip install 'coreml-sd[android]'")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--android-profile", "adreno5xx"], "android_profile = adreno5xx: choose from cpu"),
            (["--quantize", "int4"], "quantize = int4: choose from fp32, fp16, int8, dynamic-int8"),
            (["--quantize", "dynamic-int8"], "gpu is a GPU profile: choose int8, or --android-pro"),
            (["--target", "coreml", "--quantize", "int8"], "is for TFLite files: add --target"),
            (["--target", "tflite,onnx"], "targets = onnx: choose from coreml, tflite"),
        ],
    )
    def test_a_knob_that_cannot_be_honoured(
        self, run: Run, sd1_folder: Path, tmp_path: Path, flags: list[str], message: str
    ) -> None:
        arguments = ["convert", sd1_folder, "--target", "tflite", "-o", tmp_path / "b", *flags]
        run(*arguments).refused(message)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", [name for name in PROFILES if name != "cpu"])
    def test_no_gpu_profile_takes_dynamic_int8(self, sd1_folder: Path, name: str) -> None:
        with pytest.raises(UserError, match="rounds activations on the CPU only"):
            plan_conversion(config(sd1_folder, android_profile=name, quantize="dynamic-int8"))

    def test_the_cpu_profile_does(self, sd1_folder: Path) -> None:
        plan = plan_conversion(config(sd1_folder, android_profile="cpu", quantize="dynamic-int8"))
        assert settings_of(plan).quantization == "dynamic-int8"


class TestDryRun:
    def test_the_plan_says_what_stands_in_for_palettes(self, run: Run, sd1_folder: Path) -> None:
        done = run(
            "convert", sd1_folder, "--target", "coreml,tflite", "--palettize", 6, "--dry-run",
            "--android-profile", "cpu", "--attention", "original", "--chunks", 2,
        )  # fmt: skip
        assert done.status == 0, done.err
        said = " ".join(done.err.split())
        assert "for coreml, tflite: text_encoder, unet" in said
        assert "tflite has no palettes: --palettize 6 becomes dynamic-int8 weights" in said
        assert "tflite: the VAE keeps fp16 weights" in said
        assert "tflite: attention original is Core ML's" in said
        assert "tflite: the UNet stays one file (--chunks 2 is Core ML's)" in said

    def test_the_config_can_be_fed_back(self, run: Run, sd1_folder: Path, tmp_path: Path) -> None:
        arguments = ["convert", sd1_folder, "--target", "tflite", "--prune", 0.1, "--dry-run"]
        first = run(*arguments, "--android-profile", "mali", "--quantize", "int8")
        (tmp_path / "c.toml").write_text(first.out)
        assert run("convert", "--config", tmp_path / "c.toml", "--dry-run").out == first.out
        assert 'android_profile = "mali"' in first.out and json.dumps("int8") in first.out
