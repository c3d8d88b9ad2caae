"""An interrupted conversion goes on from its finished components, and only from those that fit."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion import resume as module
from coreml_sd.conversion.convert import convert
from coreml_sd.conversion.finished import FinishedComponent
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.conversion.resume import Checkpoints
from coreml_sd.errors import CoremlSDError, KilledError, NoRoomError, UserError
from coreml_sd.manifest.form import Component, NetworkFile
from coreml_sd.processes.stopping import clean_up
from tests.conversion.test_same_bytes import contents

LINE = ["palette", "/w", "key", [4, 3], 1, "AAAAAA==", 1, None, 0.5, float("inf")]
FILE = NetworkFile("VAEDecoder.mlpackage", "coreml", ["z"], ["image"])
COMPONENT = FinishedComponent(Component(inputs=[], outputs=[], files=[FILE]), 1.5)


def make(
    folder: Path,
    out: Path,
    *,
    digest: str = "d",
    verify: bool = True,
    keep: bool = True,
    **knobs: Any,
) -> Checkpoints:
    plan = plan_conversion(ConversionConfig(model=str(folder), **knobs))
    return Checkpoints(plan, out / "b", verify, lambda: digest, keep=keep)


def fill(checkpoints: Checkpoints, out: Path) -> Path:
    """One finished component; gives the file of its weights among the checkpoints."""
    staging = out / "staging"
    weights = staging / "VAEDecoder.mlpackage" / "weight.bin"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    checkpoints.add("vae_decoder", COMPONENT, staging)
    (kept,) = checkpoints.folder.glob("*/*/weight.bin")
    assert kept.stat().st_ino == weights.stat().st_ino  # neither time nor space
    return kept


def taken(checkpoints: Checkpoints, out: Path) -> dict:
    (out / "next").mkdir()
    return checkpoints.take(out / "next")


def test_a_finished_component_is_taken(sd1_folder: Path, tmp_path: Path) -> None:
    fill(make(sd1_folder, tmp_path), tmp_path)
    again = make(sd1_folder, tmp_path)
    assert taken(again, tmp_path) == {"vae_decoder": COMPONENT}
    assert contents(tmp_path / "next") == {"VAEDecoder.mlpackage/weight.bin": b"weights"}
    assert again.sums["VAEDecoder.mlpackage/weight.bin"]["bytes"] == 7
    again.remove()
    assert not again.folder.exists()


@pytest.mark.parametrize(
    "change", [{"digest": "e"}, {"verify": False}, {"palettize": 4}, {"size": "24x16"}]
)
def test_another_model_or_config_misses(sd1_folder: Path, tmp_path: Path, change: dict) -> None:
    fill(make(sd1_folder, tmp_path), tmp_path)
    other = make(sd1_folder, tmp_path, **change)
    assert taken(other, tmp_path) == {}
    assert list(other.folder.iterdir()) == []  # and what will never fit again is gone


@pytest.mark.parametrize("what", ["library", "version", "code", "card"])
def test_another_version_misses(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    fill(make(sd1_folder, tmp_path), tmp_path)
    if what == "library":
        monkeypatch.setattr("importlib.metadata.version", lambda name: "99")
    elif what == "version":
        monkeypatch.setattr(module, "__version__", "99")
    elif what == "code":
        monkeypatch.setattr(module, "_code_digest", lambda: "99")
    else:
        monkeypatch.setattr(
            "coreml_sd.models.folder.diffusers_folder.DiffusersFolder.licence_and_author",
            lambda self: ("other", "other"),
        )
    assert taken(make(sd1_folder, tmp_path), tmp_path) == {}


@pytest.mark.parametrize("name", ["weight.bin", "component.json"])
def test_a_changed_byte_misses(sd1_folder: Path, tmp_path: Path, name: str) -> None:
    file = fill(make(sd1_folder, tmp_path), tmp_path)
    file = file if name == "weight.bin" else file.parent.parent / name
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.unlink()
    file.write_bytes(data)
    checkpoints = make(sd1_folder, tmp_path)
    assert taken(checkpoints, tmp_path) == {}
    assert contents(tmp_path / "next") == {} and list(checkpoints.folder.iterdir()) == []


def test_a_part_that_was_not_whole_is_no_part(sd1_folder: Path, tmp_path: Path) -> None:
    """As a kill while it is put together leaves it."""
    checkpoints = make(sd1_folder, tmp_path)
    whole = fill(checkpoints, tmp_path).parent.parent
    whole.rename(checkpoints.folder / "new-vae_decoder-1")
    assert taken(make(sd1_folder, tmp_path), tmp_path) == {}
    assert list(checkpoints.folder.iterdir()) == []


def test_without_resume_nothing_is_taken_or_kept(sd1_folder: Path, tmp_path: Path) -> None:
    fill(make(sd1_folder, tmp_path), tmp_path)
    anew = make(sd1_folder, tmp_path, keep=False)
    assert taken(anew, tmp_path) == {} and not anew.folder.exists()
    anew.add("vae_decoder", COMPONENT, tmp_path / "staging")
    assert not anew.folder.exists()


def test_a_disk_without_hard_links_keeps_nothing(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    checkpoints = make(sd1_folder, tmp_path)
    kept = fill(checkpoints, tmp_path)
    monkeypatch.setattr(os, "link", refuse)
    assert taken(make(sd1_folder, tmp_path), tmp_path) == {}
    assert contents(tmp_path / "next") == {} and not kept.exists()
    checkpoints.add("vae_decoder", COMPONENT, tmp_path / "staging")
    assert list(checkpoints.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "stays"),
    [(KeyboardInterrupt, True), (OSError, True), (MemoryError, True), (KilledError, True),
     (NoRoomError, True), (UserError, False), (CoremlSDError, False)],
)  # fmt: skip
def test_parts_outlive_an_interruption_but_no_mistake(
    sd1_folder: Path, tmp_path: Path, error: type[BaseException], stays: bool
) -> None:
    checkpoints = make(sd1_folder, tmp_path)
    with pytest.raises(error), checkpoints.kept():
        fill(checkpoints, tmp_path)
        (line,) = clean_up()
        assert ".b.resume" in line and "vae_decoder" in line
        raise error
    assert checkpoints.folder.exists() == stays


def test_a_conversion_goes_on_where_it_stopped(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that went on equals the undisturbed one byte for byte; its checkpoints are gone."""
    from coreml_sd.conversion import component as converting

    config = ConversionConfig(model=str(sd1_folder), components=["text_encoder", "vae_encoder"])
    convert(config, tmp_path / "whole", verify=False)
    real = converting.convert_component
    converted: list[str] = []

    def interrupted(run: Any, component: Any, *rest: Any) -> Any:
        if component.name == "vae_encoder" and not converted:
            raise KeyboardInterrupt
        return real(run, component, *rest)

    def counted(run: Any, component: Any, *rest: Any) -> Any:
        converted.append(component.name)
        return real(run, component, *rest)

    monkeypatch.setattr(converting, "convert_component", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(config, tmp_path / "b", verify=False)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", ".b.resume"}
    monkeypatch.setattr(converting, "convert_component", counted)
    bundle = convert(config, tmp_path / "b", verify=False)
    assert converted == ["vae_encoder"] and set(bundle.seconds) == set(config.components or [])
    assert contents(tmp_path / "b") == contents(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "b"}
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert "seconds" not in manifest["components"]["text_encoder"]


def test_a_changed_weight_byte_converts_anew(sd1_folder: Path, tmp_path: Path) -> None:
    """The digest is of the contents: neither size nor time of the file tells."""
    import shutil

    model = Path(shutil.copytree(sd1_folder, tmp_path / "model"))
    plan = plan_conversion(ConversionConfig(model=str(model)))
    before = plan.model.folder.digest()
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    times = weights.stat()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert plan.model.folder.digest() != before


def test_palettes_are_kept_before_their_component_is_finished(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_capture: None
) -> None:
    """The run that goes on solves none, equals the undisturbed one, and another spec misses."""
    from coreml_sd.conversion import component as component_module
    from coreml_sd.conversion import convert as whole
    from coreml_sd.conversion import parallel as workers

    monkeypatch.setattr(workers, "_WORTH_A_PROCESS", 0)
    monkeypatch.setattr(workers.os, "cpu_count", lambda: 2)
    config = ConversionConfig(model=str(sd1_folder), components=["unet"], palettize=6)
    convert(config, tmp_path / "whole", verify=False)
    real = component_module.convert_component

    def interrupted(run: Any, component: Any, ahead: Any) -> None:
        ahead.finish(lambda done, of: None)
        raise KeyboardInterrupt

    monkeypatch.setattr(component_module, "convert_component", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(config, tmp_path / "b", verify=False)
    (kept,) = (tmp_path / ".b.resume").iterdir()
    assert kept.name.startswith("palettes-unet-")
    monkeypatch.setattr(component_module, "convert_component", real)

    solved = []
    real_solving = whole.solving_ahead

    def counted(*args: Any) -> Any:
        solved.append(args)
        return real_solving(*args)

    monkeypatch.setattr(whole, "solving_ahead", counted)
    convert(config, tmp_path / "b", verify=False)
    assert not solved
    assert contents(tmp_path / "b") == contents(tmp_path / "whole")

    (tmp_path / ".c.resume").mkdir()
    (tmp_path / ".c.resume" / kept.name).write_bytes(b"not what was written")
    convert(config, tmp_path / "c", verify=False)
    assert len(solved) == 1
    assert contents(tmp_path / "c") == contents(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "b", "c"}


def test_palettes_of_another_config_are_not_taken(sd1_folder: Path, tmp_path: Path) -> None:
    plans = [
        plan_conversion(
            ConversionConfig(model=str(sd1_folder), components=["unet"], palettize=bits)
        )
        for bits in (4, 6)
    ]
    four, six = (Checkpoints(plan, tmp_path / "b", False, lambda: "m", keep=True) for plan in plans)
    changed = Checkpoints(plans[0], tmp_path / "b", False, lambda: "another file", keep=True)
    four.add_palettes("unet", [LINE])
    assert four.palettes("unet") == [LINE]
    assert six.palettes("unet") is None
    assert changed.palettes("unet") is None


def reseal(file: Path, change: Any) -> None:
    """Change a record and its seal, which anyone can reckon."""
    record = json.loads(file.read_text().partition("\n")[2])
    change(record)
    file.write_text(module._sealed(record))


RECORDS = {
    "a file outside": lambda r: r["files"].update({"../x": r["files"].popitem()[1]}),
    "a file elsewhere": lambda r: r["files"].update({"/etc/passwd": r["files"].popitem()[1]}),
    "another component's file": lambda r: r["files"].update(other=r["files"].popitem()[1]),
    "no files": lambda r: r["files"].clear(),
    "a list of files": lambda r: r.update(files=[]),
    "no component": lambda r: r.pop("component"),
    "a component of another kind": lambda r: r.update(component=7),
    "an entry without files": lambda r: r["component"]["entry"].pop("files"),
    "files of another kind": lambda r: r["component"]["entry"].update(files=[7]),
    "paths of another kind": lambda r: r["component"]["entry"]["files"][0].update(path=7),
}


@pytest.mark.parametrize("change", RECORDS.values(), ids=RECORDS)
def test_a_record_of_another_kind_is_not_taken(
    sd1_folder: Path, tmp_path: Path, change: Any
) -> None:
    checkpoints = make(sd1_folder, tmp_path)
    kept = fill(checkpoints, tmp_path)
    (tmp_path / "x").write_bytes(b"weights")
    reseal(kept.parent.parent / "component.json", change)
    assert taken(checkpoints, tmp_path) == {}
    assert contents(tmp_path / "next") == {}


@pytest.mark.parametrize("name", ["component.json", "VAEDecoder.mlpackage/weight.bin"])
def test_a_pipe_among_the_parts_is_not_waited_for(
    sd1_folder: Path, tmp_path: Path, name: str
) -> None:
    checkpoints = make(sd1_folder, tmp_path)
    file = fill(checkpoints, tmp_path).parent.parent / name
    file.unlink()
    os.mkfifo(file)
    assert taken(checkpoints, tmp_path) == {}


def test_a_link_in_place_of_the_parts_harms_nothing_behind_it(
    sd1_folder: Path, tmp_path: Path
) -> None:
    checkpoints = make(sd1_folder, tmp_path)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("x")
    checkpoints.folder.symlink_to(tmp_path / "precious")
    assert taken(checkpoints, tmp_path) == {}
    assert (tmp_path / "precious/file").read_text() == "x"


LINES = {
    "a width that does not exist": [*LINE[:6], 5, *LINE[7:]],
    "a table of another size": [*LINE[:6], 2, *LINE[7:]],
    "a table of another kind": [*LINE[:5], 7, *LINE[6:]],
    "no base64": [*LINE[:5], "AAA", *LINE[6:]],
    "a shape of another kind": [*LINE[:3], 4, *LINE[4:]],
    "groups that do not fit": [*LINE[:7], 3, *LINE[8:]],
    "few entries": LINE[:5],
    "no line": 7,
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_palettes_of_another_kind_are_not_taken(
    sd1_folder: Path, tmp_path: Path, line: Any
) -> None:
    checkpoints = make(sd1_folder, tmp_path, palettize=1)
    checkpoints.add_palettes("unet", [LINE])
    assert checkpoints.palettes("unet") == [LINE]  # negative control
    checkpoints.add_palettes("unet", [LINE, line])
    assert checkpoints.palettes("unet") is None


def test_a_record_that_was_written_over_misses(sd1_folder: Path, tmp_path: Path) -> None:
    """It reads as well as before, and its files are what they were."""
    record = fill(make(sd1_folder, tmp_path), tmp_path).parent.parent / "component.json"
    text = record.read_text()
    record.write_text(text.replace('"seconds": 1.5', '"seconds": 2.5'))
    assert record.read_text() != text
    assert taken(make(sd1_folder, tmp_path), tmp_path) == {}


def test_files_beside_those_of_the_component_are_not_taken(
    sd1_folder: Path, tmp_path: Path
) -> None:
    """With right sums, and in a record that was written as one."""
    part = fill(make(sd1_folder, tmp_path), tmp_path).parent.parent
    (part / "other.bin").write_bytes(b"other")
    record = module._unsealed((part / "component.json").read_text())
    record["files"]["other.bin"] = module.file_sum(part / "other.bin")
    (part / "component.json").write_text(module._sealed(record))
    assert taken(make(sd1_folder, tmp_path), tmp_path) == {}
    assert contents(tmp_path / "next") == {}
