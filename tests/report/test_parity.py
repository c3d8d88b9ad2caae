"""Parity: gates pass on intact bundles and fail on the smallest faults."""

import json
import shutil
from pathlib import Path

import pytest

from coreml_sd.bundle import open_bundle, write_manifest
from coreml_sd.errors import UserError
from coreml_sd.parity.checks import Check
from coreml_sd.report.html import render
from coreml_sd.report.measure import measure
from coreml_sd.report.parity_report import ParityReport
from tests.helpers.kept_programs import KeptPrograms

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture
def copy(sd1_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd1_bundle, tmp_path / "copy.bundle"))


def damage(path: Path, package: str) -> None:
    """Flip one exponent bit of a palette's first value, and sign the bundle again."""
    file = path / package / WEIGHTS
    data = bytearray(file.read_bytes())
    marker = (0xDEADBEEF).to_bytes(4, "little")
    position = 0
    while (position := data.find(marker, position)) >= 0:
        size = int.from_bytes(data[position + 8 : position + 16], "little")
        if int.from_bytes(data[position + 4 : position + 8], "little") == 1 and size == 128:
            offset = int.from_bytes(data[position + 16 : position + 24], "little")
            data[offset + 1] ^= 0x08
            break
        position += 4
    else:
        pytest.fail("no palette found")
    file.write_bytes(bytes(data))
    manifest = json.loads((path / "manifest.json").read_text())
    write_manifest(path, manifest)


@pytest.fixture(scope="module")
def report(sd1_bundle: Path, kept_programs: KeptPrograms) -> ParityReport:
    """Of an intact bundle, with one picture."""
    with kept_programs.in_use():  # the whole that chunks are held against
        return measure(open_bundle(sd1_bundle), prompts=["a <cat>"])


def test_an_intact_bundle_passes_every_gate(report: ParityReport) -> None:
    assert report.passed
    unet = next(entry for entry in report.components if entry.component == "unet")
    assert unet.checks[-1].name == "chained chunks against the whole"
    assert unet.checks[-1].figure == "identical"
    assert report.pictures[0].psnr("mil") > 40  # 47.7 with 6-bit palettes


def test_one_bit_in_one_palette_fails(copy: Path, quick_capture: None) -> None:
    damage(copy, "UnetChunk1.mlpackage")
    report = measure(open_bundle(copy), prompts=[])
    assert not report.passed
    failed = {entry.component for entry in report.components if not entry.passed}
    assert failed == {"unet"}


def test_another_source_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["model"]["sha256"] = "0" * 64
    write_manifest(copy, manifest)
    with pytest.raises(UserError, match="not the model that"):
        measure(open_bundle(copy), prompts=[])


def test_the_html_is_one_honest_file(report: ParityReport) -> None:
    html = render(report)
    assert "evaluated from the file, not run by Core ML" in html
    assert "a &lt;cat&gt;" in html and "<cat>" not in html
    assert "http" not in html and html.count("data:image/png;base64,") == 3
    assert "Every gate passed" in html


def test_figures_read_well() -> None:
    assert Check("x", 61.234, "dB", 50.0, True).figure == "61.2 dB"
    assert Check("x", 61.234, "dB", 50.0, True).gate == ">= 50 dB"
    assert Check("x", float("inf"), "dB", None, True).figure == "identical"
    assert Check("x", float("-inf"), "dB", 50.0, False).figure == "not finite"
    assert Check("x", 120.0, "", 60000.0, True).gate == "< 60,000"
