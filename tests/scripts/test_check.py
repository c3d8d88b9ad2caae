"""scripts/check: what it calls quick is there, and converts nothing."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFTEST = (ROOT / "tests/conftest.py").read_text(encoding="utf-8")
MAKES = ("shared_folder.bundle(", "tiny_files", "quick_capture", "quick_export")
IMPORT = "from coreml_sd.conversion.convert import convert"


def fixtures() -> set[str]:
    """Those of tests/conftest.py that convert or export a model, or speak of it."""
    each = re.findall(r"^def (\w+)(.*?)(?=^@|^def |\Z)", CONFTEST, re.MULTILINE | re.DOTALL)
    return {name for name, body in each if any(word in name + body for word in MAKES)}


def quick() -> list[str]:
    text = (ROOT / "scripts/check").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^quick=\((.*?)^\)", text, re.MULTILINE | re.DOTALL)
    return listed.split()


def files(names: list[str]) -> list[Path]:
    paths = [ROOT / name for name in names]
    folders = [file for path in paths if path.is_dir() for file in path.rglob("test_*.py")]
    return folders + [path for path in paths if path.is_file()]


def converting(file: Path) -> set[str]:
    text = file.read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", text))
    return (words & fixtures()) | ({"convert"} if IMPORT in text else set())


def test_every_entry_is_there_once_and_in_order() -> None:
    names = quick()
    assert [name for name in names if not (ROOT / name).exists()] == []
    assert names == sorted(set(names)) and len(names) >= 20


def test_nothing_quick_converts() -> None:
    assert {"sd1_bundle", "tiny_files", "demo_bundle", "md_bundle"} <= fixtures()
    listed = [file for file in files(quick()) if file != Path(__file__)]
    assert {str(file): found for file in listed if (found := converting(file))} == {}


def test_a_conversion_is_noticed(tmp_path: Path) -> None:
    slow = tmp_path / "test_slow.py"
    slow.write_text("def test_it(sd1_bundle): pass\n", "utf-8")
    assert converting(slow) == {"sd1_bundle"}
    slow.write_text(f"{IMPORT}\n", "utf-8")
    assert converting(slow) == {"convert"}
