"""Bundles are whole or absent, and every change is noticed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coreml_sd.bundle import (
    MANIFEST_NAME,
    new_bundle,
    open_bundle,
    write_atomically,
    write_manifest,
)
from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.files.limits import LIMITS
from coreml_sd.manifest.rules import is_inside
from tests.helpers.tiny_bundle import manifest as facts
from tests.helpers.tiny_bundle import write_files


def make(path: Path, text: str = "weights") -> Path:
    with new_bundle(path) as staging:
        write_files(staging)
        (staging / "data.bin").write_text(text)
        write_manifest(staging, facts())
    return path


def test_a_finished_bundle_opens(tmp_path: Path) -> None:
    bundle = open_bundle(make(tmp_path / "b"))
    assert bundle.manifest["files"]["data.bin"]["bytes"] == 7
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_bundle(tmp_path / "b") as staging:
        (staging / "data.bin").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_a_manifest_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(CoremlSDError, match="not finished"), new_bundle(tmp_path / "b"):
        pass
    assert not (tmp_path / "b").exists()


def test_a_killed_conversion_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from coreml_sd.bundle import new_bundle\n"
        f"with new_bundle(Path({str(tmp_path / 'b')!r})) as staging:\n"
        "    (staging / 'data.bin').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert [p.name.startswith(".b.partial-") for p in tmp_path.iterdir()] == [True]
    with pytest.raises(UserError, match="no such bundle"):
        open_bundle(tmp_path / "b")
    make(tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]  # the leftover went too


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="free some space"), new_bundle(tmp_path / "b"):
        raise OSError(28, os.strerror(28))
    assert list(tmp_path.iterdir()) == []


def test_overwriting_asks_and_only_replaces_bundles(tmp_path: Path) -> None:
    path = make(tmp_path / "b")
    with pytest.raises(UserError, match="--overwrite"), new_bundle(path):
        pass
    with new_bundle(path, overwrite=True) as staging:
        write_files(staging)
        (staging / "new.bin").write_text("new")
        write_manifest(staging, facts())
    files = open_bundle(path).manifest["files"]
    assert "new.bin" in files and "data.bin" not in files
    other = tmp_path / "holiday-photos"
    other.mkdir()
    (other / "sea.jpg").write_text("x")
    with pytest.raises(UserError, match="not a bundle"), new_bundle(other, overwrite=True):
        pass
    assert (other / "sea.jpg").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"), new_bundle(tmp_path / "file/b"):
        pass


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "data.bin").write_text("weighty"), r"data\.bin: changed"),
        (lambda p: (p / "data.bin").write_text("weight"), r"data\.bin: changed"),
        (lambda p: (p / "data.bin").unlink(), r"data\.bin: missing"),
        (lambda p: (p / MANIFEST_NAME).unlink(), "half-written"),
        (lambda p: (p / MANIFEST_NAME).write_text("{"), "cannot be read"),
        (lambda p: (p / MANIFEST_NAME).write_text("{}"), "not the manifest"),
        (lambda p: edit(p, manifest_version=99), "update coreml-sd"),
        (lambda p: edit(p, components=None), "components: missing"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    path = make(tmp_path / "b")
    damage(path)
    with pytest.raises(UserError, match=message):
        open_bundle(path)


def edit(path: Path, **changes: object) -> None:
    manifest = json.loads((path / MANIFEST_NAME).read_text())
    for key, value in changes.items():
        if value is None:
            del manifest[key]
        else:
            manifest[key] = value
    write_manifest(path, manifest)


@pytest.mark.parametrize("check", [True, False])
def test_a_changed_manifest_is_noticed(tmp_path: Path, check: bool) -> None:
    """Every byte of it, even a space; the reader that does not look at the files notices too."""
    path = make(tmp_path / "b")
    intact = (path / MANIFEST_NAME).read_bytes()
    for place in range(len(intact)):
        flipped = bytearray(intact)
        flipped[place] ^= 1
        (path / MANIFEST_NAME).write_bytes(flipped)
        with pytest.raises(UserError, match=r"manifest\.json: "):
            open_bundle(path, check=check)
    (path / MANIFEST_NAME).write_bytes(intact)
    open_bundle(path, check=check)


def test_without_its_checksum_a_changed_manifest_would_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "b")
    text = (path / MANIFEST_NAME).read_text()
    (path / MANIFEST_NAME).write_text(text.replace('"batch": 2', '"batch": 1'))
    monkeypatch.setattr("coreml_sd.bundle._require_intact", lambda *_: None)
    assert open_bundle(path).pipeline["batch"] == 1


def test_a_manifest_cannot_lose_its_checksum(tmp_path: Path) -> None:
    path = make(tmp_path / "b")
    manifest = json.loads((path / MANIFEST_NAME).read_text())
    del manifest["manifest_sha256"]
    (path / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="changed since the conversion"):
        open_bundle(path)


def test_leftovers_of_a_container_whose_processes_share_a_number_go(tmp_path: Path) -> None:
    (tmp_path / f".b.partial-{os.getpid()}-killed").mkdir()
    with new_bundle(tmp_path / "b") as staging:
        with pytest.raises(RuntimeError), new_bundle(tmp_path / "b"):
            raise RuntimeError
        assert [path.name for path in tmp_path.iterdir()] == [staging.name]
        write_manifest(staging, facts())


@pytest.mark.skipif(sys.platform == "win32", reason="there are no zombies")
def test_leftovers_of_a_process_that_nobody_collected_go(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        leftover = tmp_path / f".b.partial-{owner.pid}-killed"
        leftover.mkdir()
        make(tmp_path / "b")
        assert leftover.exists()  # its owner runs: another conversion in work
        owner.kill()
        os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)  # dead, and not collected
        with new_bundle(tmp_path / "b", overwrite=True) as staging:
            write_manifest(staging, facts())
        assert not leftover.exists()


def test_a_folder_that_was_removed_meanwhile_is_not_finished(tmp_path: Path) -> None:
    """What was written before is gone, whatever was written after."""
    parent = tmp_path / "out"
    removed = pytest.raises(UserError, match="removed while it was written")
    with removed, new_bundle(parent / "b") as staging:
        write_files(staging)
        shutil.rmtree(parent)
        staging.mkdir(parents=True)
        write_files(staging)
        write_manifest(staging, facts())
    assert not (parent / "b").exists()


def test_a_file_of_another_size_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large it has become."""
    path = make(tmp_path / "b")
    (path / "TextEncoder.tflite").write_text("a network that is longer")
    monkeypatch.setattr("coreml_sd.bundle._sha256", lambda file: pytest.fail("it is read"))
    with pytest.raises(UserError, match=r"TextEncoder\.tflite: changed"):
        open_bundle(path)


def test_a_manifest_has_one_checksum(tmp_path: Path) -> None:
    """Two lines of it could both be left out of what it is taken of."""
    path = make(tmp_path / "b")
    manifest = json.loads((path / MANIFEST_NAME).read_text())
    del manifest["manifest_sha256"]
    blank = f'"manifest_sha256": "{"0" * 64}"'

    def write(inner: str) -> None:
        text = f'{json.dumps(manifest)[:-1]}, {blank}, "novelty": {{{inner}}}}}'
        seal = hashlib.sha256(text.encode()).hexdigest()
        sealed = text.replace(blank, blank.replace("0" * 64, seal))
        (path / MANIFEST_NAME).write_text(sealed)

    write("")
    open_bundle(path)
    write(blank)
    with pytest.raises(UserError, match="changed since the conversion"):
        open_bundle(path)


def test_a_manifest_is_put_in_place_at_once(tmp_path: Path) -> None:
    """Who has the old one open goes on to read the old one."""
    path = tmp_path / "x.json"
    write_atomically(path, "old")
    with path.open() as reader:
        write_atomically(path, "new")
        assert reader.read() == "old" and path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]


def test_a_scheduler_step_is_among_the_files(tmp_path: Path) -> None:
    step = {"target": "tflite", "inputs": [], "outputs": [], "weights": [], "memory": {}}
    path = make(tmp_path / "b")
    edit(path, scheduler_step={**step, "path": "data.bin"})
    open_bundle(path)
    edit(path, scheduler_step={**step, "path": "SchedulerStep.tflite"})
    with pytest.raises(UserError, match=r"scheduler_step\.path: SchedulerStep\.tflite is not"):
        open_bundle(path)


def test_a_network_is_not_its_namesake() -> None:
    assert is_inside("Unet.mlpackage", "Unet.mlpackage")
    assert is_inside("Unet.mlpackage/Data/x", "Unet.mlpackage")
    assert not is_inside("Unet.mlpackage2/Data/x", "Unet.mlpackage")


def test_the_steps_of_a_training_have_a_limit_of_their_own(tmp_path: Path) -> None:
    """Below that of all numbers of a scheduler."""
    path = make(tmp_path / "b")
    for count in (LIMITS.train_timesteps, LIMITS.train_timesteps + 1):
        pipeline = facts()["pipeline"]
        pipeline["scheduler"]["num_train_timesteps"] = count
        edit(path, pipeline=pipeline)
        if count == LIMITS.train_timesteps:
            open_bundle(path)
    with pytest.raises(UserError, match=r"num_train_timesteps: 10001: 1 to 10000"):
        open_bundle(path)


def test_a_network_outside_the_bundle_is_told_as_such(tmp_path: Path) -> None:
    path = make(tmp_path / "b")
    components = facts()["components"]
    components["text_encoder"]["files"][0]["path"] = "../b/TextEncoder.tflite"
    edit(path, components=components)
    with pytest.raises(UserError, match=r"TextEncoder\.tflite' leads out of the bundle"):
        open_bundle(path)
