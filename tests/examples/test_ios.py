"""The iOS sample parses, uses the package's names, and says that it was not compiled for iOS."""

import plistlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples/ios"
SOURCES = sorted((SAMPLE / "Sample").glob("*.swift"))
MARK = "no Xcode and no iOS SDK on the machines that coreml-sd is built on"


def parse(source: Path) -> str:
    """What the compiler says of a file's grammar."""
    swiftc = shutil.which("swiftc")
    if swiftc is None:
        pytest.skip("no Swift compiler here")
    command = [swiftc, "-parse", "-swift-version", "6", str(source)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stderr


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_file_parses(source: Path) -> None:
    assert parse(source) == ""


def test_a_missing_brace_is_found(tmp_path: Path) -> None:
    broken = tmp_path / "Broken.swift"
    text = (SAMPLE / "Sample/ContentView.swift").read_text(encoding="utf-8")
    broken.write_text(text.rstrip().removesuffix("}"), encoding="utf-8")
    assert "error:" in parse(broken)


def test_the_view_model_knows_no_screen_so_that_it_runs_on_linux() -> None:
    text = (SAMPLE / "Sample/PictureModel.swift").read_text(encoding="utf-8")
    assert re.findall(r"^import (\w+)", text, re.MULTILINE) == [
        "Diffusion",
        "Foundation",
        "Observation",
    ]
    linked = ROOT / "swift/Tests/SampleAppTests/PictureModel.swift"
    assert linked.resolve() == SAMPLE / "Sample/PictureModel.swift"


def test_the_entitlement_is_the_one_for_memory() -> None:
    content = plistlib.loads((SAMPLE / "Sample/Sample.entitlements").read_bytes())
    assert content == {"com.apple.developer.kernel.increased-memory-limit": True}


def test_the_guide_names_every_file_and_each_is_marked() -> None:
    guide = (SAMPLE / "README.md").read_text(encoding="utf-8")
    files = [*SOURCES, SAMPLE / "Sample/Sample.entitlements"]
    assert len(SOURCES) >= 4
    assert [file.name for file in files if f"`{file.name}`" not in guide] == []
    assert [file.name for file in files if MARK not in file.read_text("utf-8")[:600]] == []
    assert MARK in " ".join(guide[:400].split())
