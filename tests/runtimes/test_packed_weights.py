"""Packed weights of a network on the CPU in a file without a name, instead of private memory."""

import re
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from coreml_sd.targets.tflite.profiles import Quantization

pytest.importorskip("ai_edge_litert", reason="the extra `android` is not installed")

from coreml_sd.errors import UserError
from coreml_sd.runtimes.litert import network as litert
from coreml_sd.runtimes.litert.network import LiteRTNetwork
from tests.helpers.tiny_tflite import TinyFiles

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in /proc")
QUANTIZATIONS = ("fp32", "fp16", "int8", "dynamic-int8")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "_WORTH_A_FILE", 0)


@pytest.fixture
def file(tiny_files: TinyFiles, sd1_folder: Path, tmp_path: Path) -> Path:
    return tiny_files(sd1_folder, "unet").quantized(tmp_path / "x.tflite", "fp16")


def outputs(path: Path, scratch: Path | None) -> dict[str, np.ndarray]:
    network = LiteRTNetwork(path, threads=1, scratch=scratch)
    generator = np.random.default_rng(0)
    given = {
        name: generator.standard_normal(info.shape).astype(info.dtype)
        for name, info in network.inputs.items()
    }
    results = [network.run(given) for _ in range(2)]
    network.close()
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])
    return results[0]


def packed() -> int:
    """Bytes that this process has mapped of files of packed weights."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    found = [line.split()[0].split("-") for line in lines if ".packed-" in line]
    return sum(int(end, 16) - int(begin, 16) for begin, end in found)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_the_numbers_are_the_same_bit_for_bit(
    tiny_files: TinyFiles, sd1_folder: Path, tmp_path: Path, quantization: Quantization
) -> None:
    path = tiny_files(sd1_folder, "unet").quantized(tmp_path / "x.tflite", quantization)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found, expected = outputs(path, scratch), outputs(path, None)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert not list(scratch.iterdir())


@linux
def test_they_lie_in_a_file_that_has_no_name_and_goes(file: Path, tmp_path: Path) -> None:
    network = LiteRTNetwork(file, scratch=tmp_path)
    assert packed() > file.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    network.close()
    assert packed() == 0


@linux
def test_negative_control_without_a_folder_there_is_no_file(file: Path, tmp_path: Path) -> None:
    network = LiteRTNetwork(file)
    assert packed() == 0
    network.close()


@linux
def test_a_disk_that_may_become_full_is_left_alone(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XNNPACK would end the process."""
    room = litert._packed_bytes(file) * 3 // 2
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(room, 0, room))
    network = LiteRTNetwork(file, scratch=tmp_path)
    assert packed() == 0
    network.close()


@linux
def test_a_small_network_gets_none(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert, "_WORTH_A_FILE", litert._packed_bytes(file) + 1)
    network = LiteRTNetwork(file, scratch=tmp_path)
    assert packed() == 0
    network.close()


def test_a_folder_with_another_alphabet(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'näme "文字'
    folder.mkdir()
    assert outputs(file, folder).keys() == outputs(file, None).keys()


def test_a_damaged_file_is_named_as_ever(file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes()[:4000])
    with pytest.raises(UserError, match=re.escape(file.name)):
        LiteRTNetwork(file, scratch=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
