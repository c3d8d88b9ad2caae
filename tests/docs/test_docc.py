"""The DocC catalog converts without a warning; its tables name what the sources declare."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "swift/Sources"
CATALOG = SOURCES / "Diffusion/Diffusion.docc"
LISTINGS = sorted((CATALOG / "Resources").glob("*.swift"))

# An empty module, so that the landing page has one to describe. Articles link no symbols: those of
# DiffusionCore are in another module's documentation.
MODULE = {
    "metadata": {"formatVersion": {"major": 0, "minor": 6, "patch": 0}, "generator": "tests"},
    "module": {
        "name": "Diffusion",
        "platform": {"architecture": "x86_64", "operatingSystem": {"name": "linux"}},
    },
    "symbols": [],
    "relationships": [],
}


def convert(catalog: Path, work: Path) -> subprocess.CompletedProcess[str]:
    docc = shutil.which("docc")
    if docc is None:
        pytest.skip("no docc here")
    graphs = work / "graphs"
    graphs.mkdir()
    (graphs / "Diffusion.symbols.json").write_text(json.dumps(MODULE), encoding="utf-8")
    command = [docc, "convert", str(catalog), "--additional-symbol-graph-dir", str(graphs)]
    command += ["--warnings-as-errors", "--output-path", str(work / "Diffusion.doccarchive")]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def article(name: str) -> str:
    return (CATALOG / f"Articles/{name}.md").read_text(encoding="utf-8")


def first_column(text: str) -> set[str]:
    """Names in backticks in the first column of every table."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {name for row in rows for name in re.findall(r"`(\w+)[^`]*`", row)}


def cases(file: str, enum: str) -> set[str]:
    text = (SOURCES / file).read_text(encoding="utf-8")
    body = re.search(rf"public enum {enum}\b.*?\n}}", text, re.DOTALL)
    assert body
    lines = re.findall(r"^    case (.+)$", body[0], re.MULTILINE)
    return {
        word
        for line in lines
        for word in re.findall(r"(?:^|, )(\w+)", re.sub(r"\(.*\)| = \S+", "", line))
    }


def test_the_catalog_converts_without_a_warning(tmp_path: Path) -> None:
    result = convert(CATALOG, tmp_path)
    assert (result.returncode, (result.stdout + result.stderr).strip()) == (0, "")
    pages = {page.stem for page in tmp_path.rglob("data/**/*.json")}
    names = {path.stem.lower() for path in CATALOG.rglob("*.md")}
    assert names | {"drawapicture", "tutorials"} <= pages


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "Diffusion.docc"
    shutil.copytree(CATALOG, copy)
    page = copy / "Articles/Backends.md"
    page.write_text(page.read_text("utf-8") + "\nSee <doc:NoSuchPage>.\n", encoding="utf-8")
    result = convert(copy, tmp_path)
    assert result.returncode != 0 and "NoSuchPage" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("page", "declared"),
    [
        ("ErrorsAndRecovery", [("DiffusionCore/DiffusionError.swift", "DiffusionError")]),
        ("MemoryAndDelivery", [("DiffusionCore/Memory/MemoryPolicy.swift", "MemoryPolicy")]),
        (
            "SchedulersAndNoise",
            [
                ("DiffusionCore/Schedulers/Scheduler.swift", "SchedulerName"),
                ("DiffusionCore/Random/RandomSource.swift", "RandomSourceName"),
            ],
        ),
    ],
)
def test_tables_name_every_case_and_no_other(page: str, declared: list[tuple[str, str]]) -> None:
    known = {case for file, enum in declared for case in cases(file, enum)}
    assert known and first_column(article(page)) == known


def test_compute_units_have_the_names_of_the_python_command() -> None:
    from coreml_sd.runtimes.coreml import COMPUTE_UNITS

    options = (SOURCES / "CoreMLDiffusion/CoreMLOptions.swift").read_text(encoding="utf-8")
    units = re.findall(r"        case (\w+)(?: = \"([\w-]+)\")?$", options, re.MULTILINE)
    assert tuple(value or name for name, value in units) == COMPUTE_UNITS
    assert all(f"`{name}`" in article("Backends") for name in COMPUTE_UNITS)


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda path: path.name)
def test_every_listing_is_used_and_parses(listing: Path) -> None:
    tutorial = (CATALOG / "Tutorials/DrawAPicture.tutorial").read_text(encoding="utf-8")
    assert f'file: "{listing.name}"' in tutorial
    swiftc = shutil.which("swiftc")
    if swiftc is None:
        pytest.skip("no Swift compiler here")
    command = [swiftc, "-parse", "-swift-version", "6", str(listing)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.stderr == ""
