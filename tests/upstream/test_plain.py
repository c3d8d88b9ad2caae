"""`COREML_SD_PLAIN` switches the shortcuts off, and the files that come out are the same."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.errors import UserError
from coreml_sd.upstream import plain
from coreml_sd.upstream.patch import Patch
from coreml_sd.upstream.table import PATCHES, check_environment

ROOT = Path(__file__).resolve().parents[2]
SHORTCUT = Patch("short", "shortcut", ("a:b",), "why", "1", "test", "much")
FAULT = Patch("wrong", "fault", ("a:b",), "why", "1", "test")


class Owner:
    """Something to be changed."""

    @staticmethod
    def number() -> int:
        return 1


class TestSwitch:
    @pytest.mark.parametrize("value", ["1", "short", "other, short"])
    def test_it_switches_a_shortcut_off(self, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv(plain.VARIABLE, value)
        with SHORTCUT.replaced(Owner, "number", lambda: 2):
            assert Owner.number() == 1

    @pytest.mark.parametrize("value", ["", "0", "other"])
    def test_without_it_the_shortcut_is_taken(
        self, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv(plain.VARIABLE, value)
        with SHORTCUT.replaced(Owner, "number", lambda: 2):
            assert Owner.number() == 2
        assert Owner.number() == 1 and isinstance(vars(Owner)["number"], staticmethod)

    def test_a_fault_is_worked_around_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(plain.VARIABLE, "1")
        with FAULT.replaced(Owner, "number", lambda: 2):
            assert Owner.number() == 2

    def test_everything_is_put_back_after_a_failure(self) -> None:
        with pytest.raises(ZeroDivisionError), FAULT.replaced(Owner, "new", 3):
            assert Owner.new == 3
            raise ZeroDivisionError
        assert not hasattr(Owner, "new")

    def test_an_unknown_name_is_refused_with_the_known_ones(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(plain.VARIABLE, "no-such")
        with pytest.raises(UserError, match=r"COREML_SD_PLAIN.*'no-such'.*type-names"):
            check_environment()
        monkeypatch.setenv(plain.VARIABLE, "type-names")
        check_environment()

    def test_what_is_no_shortcut_cannot_be_switched_off(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (other, *_) = [patch.name for patch in PATCHES if patch.kind != "shortcut"]
        monkeypatch.setenv(plain.VARIABLE, other)
        with pytest.raises(UserError, match=other):
            check_environment()


HAS_TFLITE = importlib.util.find_spec("litert_torch") is not None
# Most weights of the tiny model are to count as large, and none of its biases.
SMALL = {"RESOURCE_CONSTANT_NUMEL_THRESHOLD": "5000"}
# By distinct calls a UNet's slices come before what does not depend on them: the same calculation
# in another order (tests/upstream/test_torch_distinct_calls.py).
ALL_BUT_DISTINCT_CALLS = ",".join(
    patch.name for patch in PATCHES if patch.kind == "shortcut" and patch.name != "distinct-calls"
)


def converted_alone(folder: Path, output: Path, switched_off: str) -> dict[str, bytes]:
    """The files of a UNet for all targets that a process of its own has written."""
    command = [sys.executable, "-m", "coreml_sd.cli.main", "convert", str(folder), "-o"]
    command += [str(output), "--no-verify", "--no-resume", "--jobs", "1"]
    command += ["--components", "unet", "--palettize", "4"]
    if HAS_TFLITE:
        command += ["--target", "coreml,tflite", "--quantize", "fp16"]
    given = {**os.environ, **SMALL, plain.VARIABLE: switched_off}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=given)
    assert done.returncode == 0, done.stderr[-2000:]
    return networks(output)


def converted(folder: Path, output: Path, switched_off: str, bits: int = 4) -> dict[str, bytes]:
    """The same of a text encoder, written by this process."""
    config = ConversionConfig(str(folder), components=["text_encoder"], palettize=bits)
    if HAS_TFLITE:
        config = dataclasses.replace(config, targets=["coreml", "tflite"], quantize="fp16")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SMALL, plain.VARIABLE: switched_off}.items():
            patch.setenv(name, value)
        convert(config, output, verify=False, jobs=1, resume=False)
    return networks(output)


def networks(bundle: Path) -> dict[str, bytes]:
    """What is in the files of a bundle's networks."""
    files = [file for file in bundle.rglob("*") if file.is_file()]
    found = {file.relative_to(bundle).as_posix(): file.read_bytes() for file in files}
    endings = {Path(name).suffix for name in found}
    assert {".mlmodel", ".bin", *([".tflite"] if HAS_TFLITE else [])} <= endings
    return found


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if one[name] != other[name]]


def test_the_files_are_the_same_byte_for_byte(short_folder: Path, tmp_path: Path) -> None:
    """Also without the libraries that a process leaves out where it only converts."""
    short = converted_alone(short_folder, tmp_path / "short", "0")
    long = converted_alone(short_folder, tmp_path / "long", ALL_BUT_DISTINCT_CALLS)
    assert differing(short, long) == []


def test_a_text_encoder_is_the_same_byte_for_byte(short_folder: Path, tmp_path: Path) -> None:
    """By distinct calls too; and negative control: another file is noticed."""
    short = converted(short_folder, tmp_path / "short", "0")
    long = converted(short_folder, tmp_path / "long", "1")
    assert differing(short, long) == []
    six = converted(short_folder, tmp_path / "6", "0", bits=6)
    assert [name for name in differing(short, six) if name.endswith(".mlmodel")]


def test_the_command_refuses_an_unknown_name(sd1_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "coreml_sd.cli.main", "convert", str(sd1_folder), "-o"]
    command += [str(tmp_path / "x"), "--no-verify"]
    given = {**os.environ, plain.VARIABLE: "no-such"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=given)
    assert done.returncode == 2 and "no-such" in done.stderr
