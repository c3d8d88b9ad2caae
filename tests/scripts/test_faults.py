"""The fault harness in its short form, and that it finds what it looks for."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from coreml_sd.errors import UserError
from scripts.fault_harness import CONVERT
from scripts.faults.disturber import Disturber
from scripts.faults.flips import flip_bits

# Conversions in small: four files, one after the other, then a manifest.
_FILES = """
import sys, time
from pathlib import Path
from coreml_sd.bundle import new_bundle, write_manifest
from coreml_sd.cli.signals import stopping_at_once
out = Path(sys.argv[sys.argv.index("-o") + 1])
from tests.helpers.tiny_bundle import manifest, write_files
facts = manifest()
def write(folder):
    write_files(folder)
    for number in range(4):
        (folder / f"{number}.bin").write_bytes(bytes([number]) * 1000)
        yield
        time.sleep(0.1)
"""
_SOUND = """
with stopping_at_once(), new_bundle(out) as staging:
    list(write(staging))
    write_manifest(staging, facts)
"""
_NOT_ATOMIC = """
out.mkdir(exist_ok=True)
for _ in write(out):
    write_manifest(out, facts)
"""
_RUNS_ON = """
import subprocess
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
"""
_OTHER_BYTES = """
with new_bundle(out) as staging:
    list(write(staging))
    write_manifest(staging, {**facts, "notes": [time.time()]})
"""


def disturber(work: Path, code: str) -> Disturber:
    return Disturber([sys.executable, "-c", _FILES + code], work, seed=1)


def test_a_sound_conversion_passes(tmp_path: Path) -> None:
    harness = disturber(tmp_path / "w", _SOUND)
    harness.kills(5)
    harness.stops(4)
    assert harness.findings.broken == []
    assert harness.findings.counts["kills"] == 5 and harness.findings.counts["stop"] == 4


@pytest.mark.parametrize(
    ("code", "kills", "found"),
    [
        (_NOT_ATOMIC, 12, "a broken bundle opens"),
        (_RUNS_ON + _SOUND, 2, "are still there"),
        (_OTHER_BYTES, 2, "other bytes than undisturbed"),
    ],
)
def test_what_is_broken_is_found(tmp_path: Path, code: str, kills: int, found: str) -> None:
    harness = disturber(tmp_path / "w", code)
    harness.kills(kills)
    assert any(found in line for line in harness.findings.broken), harness.findings.broken


def test_a_command_that_dies_of_ctrl_c_with_a_traceback_is_found(tmp_path: Path) -> None:
    harness = disturber(tmp_path / "w", _SOUND.replace("stopping_at_once(), ", ""))
    harness.stops(2)
    told = "".join(harness.findings.broken)
    assert "Traceback" in told and "status" in told and "left" in told


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("guarded", [True, False])
def test_a_stop_does_not_wait_for_compiled_code(guarded: bool) -> None:
    code = f"""
import contextlib, hashlib
from coreml_sd.cli.signals import stopping_at_once
with {"stopping_at_once()" if guarded else "contextlib.nullcontext()"}:
    try:
        print("on", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 5_000_000)
    finally:
        print("to its end", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "on\n"
        process_time = psutil.Process(process.pid).cpu_times
        begun = process_time().user
        while process_time().user < begun + 0.1:  # it computes
            time.sleep(0.005)
        process.send_signal(2)
        out, told = process.communicate()
    assert out == ("" if guarded else "to its end\n")
    if guarded:
        assert process.returncode == 130 and told == "stopped; nothing was left behind\n"


@pytest.fixture(scope="module")
def conversion(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Disturber:
    """Of two small networks."""
    command = [
        *CONVERT, str(sd1_folder), "--palettize", "4", "--no-verify",
        "--components", "text_encoder,vae_encoder",
    ]  # fmt: skip
    return Disturber(command, tmp_path_factory.mktemp("faults") / "w", seed=3)


@pytest.mark.skipif(sys.platform == "win32", reason="the harness is for POSIX systems")
def test_a_conversion_is_killed_and_stopped(conversion: Disturber) -> None:
    """In one process or two; the last run equals the undisturbed one."""
    conversion.kills(1, jobs=(1, 2))
    conversion.stops(1, jobs=(2,), early=True)
    assert conversion.findings.broken == []
    assert conversion.findings.counts["finished"] >= 2


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small disk"
)
def test_a_disk_that_fills_up(conversion: Disturber, tmp_path: Path) -> None:
    try:
        conversion.full_disks(1, tmp_path / "disk")
    except subprocess.CalledProcessError:
        pytest.skip("a tmpfs cannot be mounted here")
    assert conversion.findings.broken == []


def test_no_flipped_bit_is_accepted(both_bundle: Path, tmp_path: Path) -> None:
    findings = flip_bits(both_bundle, tmp_path / "copy", count=60, seed=5)
    assert findings.broken == []
    assert findings.counts["flips"] == 60 and findings.counts["files"] >= 15


def test_without_checksums_flipped_bits_would_be_accepted(
    sd1_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coreml_sd.bundle.verify_files", lambda bundle: None)
    findings = flip_bits(sd1_bundle, tmp_path / "copy", count=20, seed=5)
    assert any("accepted" in line for line in findings.broken)


def test_a_reader_that_fails_with_a_traceback_is_found(
    sd1_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("fine") from KeyError()

    def worse(*_: object) -> None:
        raise KeyError("not fine")

    monkeypatch.setattr("scripts.faults.flips._read", fail)
    assert flip_bits(sd1_bundle, tmp_path / "copy", count=3, seed=5).broken == []
    monkeypatch.setattr("scripts.faults.flips._read", worse)
    assert len(flip_bits(sd1_bundle, tmp_path / "copy", count=3, seed=5).broken) == 3


def test_a_damaged_tokenizer_is_told_in_one_line(tmp_path: Path) -> None:
    from coreml_sd.generation.prompt import PromptEncoder

    (tmp_path / "vocab.json").write_text("{")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(UserError, match=r"cannot be read.*restore"):
        PromptEncoder(tmp_path, {"max_tokens": 77}).encode("a cat")
