"""Too little disk or memory is said before the work."""

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from coreml_sd.bundle import open_bundle
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.conversion.prediction import predict
from coreml_sd.conversion.resources import (
    least_bytes,
    require_disk,
    warn_of_memory,
)
from coreml_sd.errors import NoRoomError
from coreml_sd.progress import Silent
from coreml_sd.targets.plan import Plan
from tests.helpers.command import Run, runner

run = pytest.fixture(runner)
Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "available")


class Warned(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


def plan_of(folder: Path, **knobs: Any) -> Plan:
    return plan_conversion(ConversionConfig(model=str(folder), **knobs))


def free_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10**12, 0, free))


def free_memory(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(free))


def test_the_prediction_is_below_what_was_written(sd1_folder: Path, sd1_bundle: Path) -> None:
    """A conversion that fits is never refused; nor is the prediction an empty one."""
    written = sum(entry["bytes"] for entry in open_bundle(sd1_bundle).manifest["files"].values())
    predicted = least_bytes(plan_of(sd1_folder, palettize=6, chunks="2"))
    assert 0.1 * written < predicted < written


def test_a_disk_too_small_is_refused_with_the_numbers(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(sd1_folder)
    needed = least_bytes(plan)
    free_disk(monkeypatch, needed)
    require_disk(plan, tmp_path / "not" / "there" / "yet", tmp_path)
    free_disk(monkeypatch, needed - 1)
    with pytest.raises(NoRoomError, match=r"needs another \d\.\d MB and \d\.\d MB are free.*-o"):
        require_disk(plan, tmp_path / "b", tmp_path)
    (tmp_path / "taken").write_bytes(b"x")  # a component of an earlier run counts
    require_disk(plan, tmp_path / "b", tmp_path)


def test_the_command_refuses_before_any_network_is_converted(
    run: Run, sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_disk(monkeypatch, 1000)
    monkeypatch.setattr(
        "coreml_sd.conversion.component.convert_component",
        lambda *_: pytest.fail("began to convert"),
    )
    done = run("convert", sd1_folder, "-o", tmp_path / "b")
    done.refused("free some space or choose another -o")
    assert list(tmp_path.iterdir()) == []


def test_memory_too_small_is_a_warning(sd1_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, told = plan_of(sd1_folder), Warned()
    prediction = predict(plan, verify=True)
    needed = prediction.memory
    assert needed >= predict(plan, verify=False).memory
    free_memory(monkeypatch, needed)
    warn_of_memory(prediction, True, told)
    assert told.lines == []
    free_memory(monkeypatch, needed - 1)
    warn_of_memory(prediction, True, told)
    (line,) = told.lines
    assert f"about {needed / 1e9:.1f} GB of memory" in line and "--no-verify" in line


def test_little_memory_does_not_stop_a_conversion(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_memory(monkeypatch, 10**8)
    told = Warned()
    config = ConversionConfig(model=str(sd1_folder), components=["text_encoder"])
    convert(config, tmp_path / "b", verify=False, progress=told)
    assert len(told.lines) == 1
