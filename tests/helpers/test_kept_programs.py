"""A program that is taken a second time makes the package that a captured one makes."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from tests.helpers.kept_programs import KeptPrograms


def package(config: ConversionConfig, path: Path) -> dict[str, bytes]:
    (package,) = convert(config, path, verify=False).files("vae_encoder", "coreml")
    files = (file for file in package.rglob("*") if file.is_file())
    return {file.relative_to(package).as_posix(): file.read_bytes() for file in files}


@pytest.fixture
def config(sd1_folder: Path) -> ConversionConfig:
    return ConversionConfig(model=str(sd1_folder), components=["vae_encoder"])


def test_its_bytes_are_those_of_a_captured_one(config: ConversionConfig, tmp_path: Path) -> None:
    """With other weights stored, too."""
    programs = KeptPrograms()
    small = dataclasses.replace(config, palettize=4)
    with programs.in_use():
        package(small, tmp_path / "first")
        again = [package(config, tmp_path / "a"), package(small, tmp_path / "b")]
    assert programs.reused == 2 and len(programs.finished) == 1
    assert again == [package(config, tmp_path / "c"), package(small, tmp_path / "d")]


@pytest.mark.parametrize("change", [{"min_os": "iOS18"}, {"size": "24x16"}])
def test_another_program_is_not_taken(
    config: ConversionConfig, tmp_path: Path, change: dict[str, Any]
) -> None:
    programs = KeptPrograms()
    with programs.in_use():
        package(config, tmp_path / "one")
        package(dataclasses.replace(config, **change), tmp_path / "other")
    assert programs.reused == 0


def test_another_norm_is_another_program(config: ConversionConfig, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(config.model, tmp_path / "model"))
    (file,) = (folder / "vae").glob("*.safetensors")
    tensors = load_file(file)
    tensors["encoder.conv_norm_out.weight"] *= 2
    save_file(tensors, file)
    programs = KeptPrograms()
    with programs.in_use():
        package(config, tmp_path / "one")
        package(dataclasses.replace(config, model=str(folder)), tmp_path / "other")
    assert programs.reused == 0
