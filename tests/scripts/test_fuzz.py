"""The fuzzer in its short form, and that it finds what is broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from scripts.fuzzing import hunt
from scripts.fuzzing.child import try_one
from scripts.fuzzing.hunt import Findings, Hunt
from scripts.fuzzing.kinds import KINDS, Configs, Material

SEED = 20261127
SHORT = {"folders": 25, "programs": 40, "blobs": 40}


@pytest.fixture(scope="module")
def material(sd1_folder: Path, both_bundle: Path) -> Material:
    return Material(sd1_folder, both_bundle)


@pytest.mark.parametrize("name", list(KINDS))
def test_changed_inputs_are_read_or_refused_in_one_line(
    material: Material, tmp_path: Path, name: str
) -> None:
    kind = KINDS[name](material, tmp_path)
    kind.restore()
    for reader in kind.readers():
        reader()  # the intact one
    before = sorted(path.name for path in tmp_path.iterdir())
    for number in range(SHORT.get(name, 150)):
        assert try_one(kind, f"{SEED}-{name}-{number}") == [], f"{name} {number}"
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    for file, data in kind.intact.items():
        assert (kind.copy / file).read_bytes() == data


def test_an_input_is_the_same_each_time(material: Material, tmp_path: Path) -> None:
    kind = KINDS["manifests"](material, tmp_path)
    seen: list[bytes] = []
    kind.readers = lambda: [  # type: ignore[method-assign]
        lambda: seen.append((kind.copy / "manifest.json").read_bytes())
    ]
    for number in (3, 4, 3):
        try_one(kind, f"{SEED}-{number}")
    assert seen[0] == seen[2] != seen[1]


@pytest.mark.parametrize("fault", [KeyError("x"), RecursionError(), TypeError("y")])
def test_an_error_that_no_user_should_see_is_found(
    material: Material, tmp_path: Path, fault: Exception
) -> None:
    kind = Configs(material, tmp_path)

    def broken() -> None:
        raise fault

    kind.readers = lambda: [broken]  # type: ignore[method-assign]
    (told,) = try_one(kind, "0")
    assert type(fault).__name__ in told


def hunted(material: Material, work: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> list[str]:
    """What is found of a process that runs `code` instead of trying inputs."""

    def start(self: Hunt, first: int) -> Any:
        return subprocess.Popen(
            [sys.executable, "-uc", f"import os, sys, time, json\nfirst = {first}\n{code}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    monkeypatch.setattr(Hunt, "_start", start)
    monkeypatch.setattr(hunt, "HANG_SECONDS", 3.0)
    findings = Findings()
    each = Hunt("configs", 0, material, work)
    (each.folder / "stderr").touch()
    each.run(0, 2, 60, findings)
    return list(findings.faults)


TRY = "for n in range(first, 9):\n print(json.dumps(['trying', n]))\n sys.stdin.readline()\n"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (TRY, ""),
        (f"{TRY} os.kill(os.getpid(), 11)", "ended with status -11"),
        (f"{TRY} time.sleep(60)", "no answer in 3 s"),
        (f"{TRY} print(json.dumps(['fault', 'KeyError']))", "KeyError"),
        (f"{TRY} open('WORK/configs/tmp/left', 'w')", "left tmp/left"),
        (f"{TRY} held = bytearray(400 << 20)", "more than 4 GB"),
    ],
)
def test_what_a_process_does_is_found(
    material: Material,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    found: str,
) -> None:
    monkeypatch.setattr(hunt, "MOST_MEMORY", 300 << 20)
    faults = hunted(material, tmp_path, monkeypatch, code.replace("WORK", str(tmp_path)))
    assert any(found in fault for fault in faults) if found else faults == []
