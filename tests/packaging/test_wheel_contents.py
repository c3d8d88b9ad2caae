"""A wheel holds the package, its data and the built-in model, and nothing else."""

import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import coreml_sd
from coreml_sd.models.find_model import DEMO_FOLDER

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "coreml_sd"
LARGEST = 25_000_000  # bytes; 20 MB are the built-in model's weights


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def in_the_package() -> set[str]:
    files = (path for path in PACKAGE.rglob("*") if path.is_file())
    return {str(f.relative_to(ROOT)) for f in files if "__pycache__" not in f.parts}


def lacks(wheel: Path, wanted: set[str]) -> set[str]:
    return wanted - names(wheel)


def test_every_file_of_the_package_is_there(wheel: Path) -> None:
    assert lacks(wheel, in_the_package()) == set()


def test_data_and_the_built_in_model_are_there(wheel: Path) -> None:
    data = [
        PACKAGE / "py.typed",
        PACKAGE / "report/templates/parity.html",
        *DEMO_FOLDER.rglob("*.safetensors"),
        *DEMO_FOLDER.rglob("*.json"),
        DEMO_FOLDER / "tokenizer/merges.txt",
    ]
    assert len(data) >= 12
    assert lacks(wheel, {str(path.relative_to(ROOT)) for path in data}) == set()


def test_a_missing_file_is_noticed(wheel: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.whl"
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(cut, "w") as rest:
        for name in whole.namelist():
            if not name.endswith("py.typed"):
                rest.writestr(name, whole.read(name))
    assert lacks(cut, in_the_package()) == {"coreml_sd/py.typed"}


def test_nothing_else_is_there(wheel: Path) -> None:
    strange = {name for name in names(wheel) - in_the_package() if ".dist-info/" not in name}
    assert strange == set()
    assert wheel.stat().st_size < LARGEST


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folder = f"coreml_sd-{coreml_sd.__version__}.dist-info"
        metadata = message_from_bytes(archive.read(f"{folder}/METADATA"))
        points = archive.read(f"{folder}/entry_points.txt").decode()
    assert metadata["Name"] == "coreml-sd" and metadata["Version"] == coreml_sd.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "coreml-sd = coreml_sd.cli.main:main" in points


def test_the_source_archive_holds_what_a_wheel_is_built_from(source_archive: Path) -> None:
    with tarfile.open(source_archive) as archive:
        files = {name.split("/", 1)[1] for name in archive.getnames()}
    assert in_the_package() <= files
    rest = {name for name in files if not name.startswith("coreml_sd/")}
    assert rest == {
        ".gitignore",
        "CHANGELOG.md",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "constraints.txt",
        "pyproject.toml",
    }
    assert source_archive.stat().st_size < LARGEST
