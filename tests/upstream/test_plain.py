"""`COREML_SD_PLAIN` switches the shortcuts off, and the files that come out are the same."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def converted(folder: Path, output: Path, *options: str, **environment: str) -> dict[str, bytes]:
    """The files of a bundle that a process of its own has written, apart from what says when."""
    command = [sys.executable, "-m", "coreml_sd.cli.main", "convert", str(folder), "-o"]
    command += [str(output), "--no-verify", "--no-resume", "--jobs", "1", *options]
    # Most weights of the tiny model are to count as large, and none of its biases.
    given = {**os.environ, "RESOURCE_CONSTANT_NUMEL_THRESHOLD": "5000", **environment}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=given)
    assert done.returncode == 0, done.stderr[-2000:]
    files = [file for file in output.rglob("*") if file.is_file()]
    return {file.relative_to(output).as_posix(): file.read_bytes() for file in files}


# By distinct calls a UNet's slices come before what does not depend on them: the same calculation
# in another order (tests/upstream/test_torch_distinct_calls.py).
_ALL_BUT_DISTINCT_CALLS = ",".join(
    patch.name for patch in PATCHES if patch.kind == "shortcut" and patch.name != "distinct-calls"
)
CASES = {
    "coreml": ("1", "--palettize", "4", "--chunks", "2"),
    "tflite": ("1", "--target", "tflite", "--components", "text_encoder"),
    "tflite-unet": (_ALL_BUT_DISTINCT_CALLS, "--target", "tflite", "--components", "unet"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_files_are_the_same_byte_for_byte(sd1_folder: Path, tmp_path: Path, case: str) -> None:
    if case != "coreml" and importlib.util.find_spec("litert_torch") is None:
        pytest.skip("the extra `android` is not installed")
    off, *options = CASES[case]
    short = converted(sd1_folder, tmp_path / "short", *options)
    long = converted(sd1_folder, tmp_path / "long", *options, **{plain.VARIABLE: off})
    assert any(name.endswith((".mlmodel", ".tflite")) for name in short)
    assert short.keys() == long.keys()
    assert [name for name in short if short[name] != long[name]] == []


def test_negative_control_another_file_is_noticed(sd1_folder: Path, tmp_path: Path) -> None:
    four = converted(sd1_folder, tmp_path / "4", "--components", "vae_encoder", "--palettize", "4")
    six = converted(sd1_folder, tmp_path / "6", "--components", "vae_encoder", "--palettize", "6")
    assert [name for name in four if name.endswith(".mlmodel") and four[name] != six.get(name)]


def test_the_command_refuses_an_unknown_name(sd1_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "coreml_sd.cli.main", "convert", str(sd1_folder), "-o"]
    command += [str(tmp_path / "x"), "--no-verify"]
    given = {**os.environ, plain.VARIABLE: "no-such"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=given)
    assert done.returncode == 2 and "no-such" in done.stderr
