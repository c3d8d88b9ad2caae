"""A conversion ends with all that it promised and proved, or without a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion import convert as converting
from coreml_sd.conversion.component import passed
from coreml_sd.conversion.convert import convert
from coreml_sd.conversion.finished import FinishedComponent
from coreml_sd.conversion.resume import Checkpoints
from coreml_sd.conversion.run import ConversionRun
from coreml_sd.errors import CoremlSDError
from coreml_sd.manifest.form import Component, NetworkFile
from coreml_sd.parity.checks import Check, ComponentParity
from coreml_sd.targets.coreml import convert as convert_coreml

FILE = NetworkFile("TextEncoder.mlpackage", "coreml", [], [])


def text_encoder_alone(
    run: ConversionRun, checkpoints: Checkpoints
) -> tuple[dict[str, FinishedComponent], dict[str, Any]]:
    """In place of conversions: the files of one component, which are kept for the next run."""
    (run.staging / FILE.path).mkdir()
    (run.staging / FILE.path / "Manifest.json").write_text("{}")
    component = FinishedComponent(Component(inputs=[], outputs=[], files=[FILE]), 0.0)
    checkpoints.add("text_encoder", component, run.staging)
    assert checkpoints.folder.is_dir()
    return {"text_encoder": component}, {}


def config_of(folder: Path, *components: str) -> ConversionConfig:
    return ConversionConfig(model=str(folder), components=list(components))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "_convert_components", text_encoder_alone)


@pytest.mark.usefixtures("quick")
def test_nothing_is_left_beside_a_finished_bundle(sd1_folder: Path, tmp_path: Path) -> None:
    convert(config_of(sd1_folder, "text_encoder"), tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.usefixtures("quick")
def test_a_conversion_that_lacks_a_file_writes_no_bundle(sd1_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CoremlSDError, match="the bundle lacks vae_encoder"):
        convert(config_of(sd1_folder, "text_encoder", "vae_encoder"), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_gate_is_no_entry() -> None:
    good = Check("file in fp16", 61.0, "dB", 50.0, True)
    bad = Check("file in fp32", 61.0, "dB", 85.0, False, "output y")
    assert passed(ComponentParity("unet", "coreml", "", "", (good,))).checks
    with pytest.raises(CoremlSDError, match=r"unet: file in fp32 is 61.0 dB .* \(output y\)"):
        passed(ComponentParity("unet", "coreml", "", "", (good, bad)))


@pytest.mark.usefixtures("quick_capture")
def test_a_package_is_read_back_when_it_is_written(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `verify` too: it is cheap, and nothing else would see a weight that was not kept."""
    real, read = convert_coreml.verify_stored, []

    def seen(stored: Any, *rest: Any) -> int:
        read.append(real(stored, *rest))
        return read[-1]

    monkeypatch.setattr(convert_coreml, "verify_stored", seen)
    convert(config_of(sd1_folder, "vae_encoder"), tmp_path / "b", verify=False)
    assert len(read) == 1 and read[0] > 10
