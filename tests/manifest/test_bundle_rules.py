"""What the reader of bundles refuses: the list that Swift and Kotlin are tried with too."""

import copy
import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from coreml_sd.bundle import MANIFEST_NAME, open_bundle, write_manifest
from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS
from tests.helpers.tiny_bundle import manifest

FIXTURES = Path(__file__).parents[1] / "fixtures"
RULES: dict[str, dict[str, Any]] = json.loads((FIXTURES / "bundle_rules.json").read_text("utf-8"))
DEMO = json.loads((FIXTURES / "manifest-demo.json").read_text("utf-8"))
UNSEALED = "0" * 64


def named(kind: str) -> list[Any]:
    return [pytest.param(rule, id=name) for name, rule in RULES.items() if name.startswith(kind)]


def write_sealed(folder: Path, text: str) -> None:
    """A manifest with its own checksum, whatever else it says."""
    blank = f'"manifest_sha256": "{UNSEALED}"'
    whole = text.rstrip().removesuffix("}").rstrip() + f",\n {blank}\n}}\n"
    seal = hashlib.sha256(whole.encode()).hexdigest()
    sealed = whole.replace(blank, blank.replace(UNSEALED, seal))
    (folder / MANIFEST_NAME).write_text(sealed, "utf-8")


def require_verdict(folder: Path, rule: dict[str, Any], *, check: bool) -> None:
    if not rule["refused"]:
        open_bundle(folder, check=check)
        return
    with pytest.raises(UserError) as refusal:
        open_bundle(folder, check=check)
    line = str(refusal.value)
    assert rule["names"] in line and "\n" not in line, line


def edited(edits: list[dict[str, Any]]) -> dict[str, Any]:
    changed: dict[str, Any] = copy.deepcopy(DEMO)
    for edit in edits:
        holder: Any = changed
        for key in edit["at"][:-1]:
            holder = holder[key]
        if "value" in edit:
            holder[edit["at"][-1]] = edit["value"]
        else:
            del holder[edit["at"][-1]]
    return changed


@pytest.mark.parametrize("rule", named("edit"))
def test_values(tmp_path: Path, rule: dict[str, Any]) -> None:
    write_sealed(tmp_path, json.dumps(edited(rule["edits"])))
    require_verdict(tmp_path, rule, check=False)


@pytest.mark.parametrize("rule", named("text"))
def test_texts(tmp_path: Path, rule: dict[str, Any]) -> None:
    text = json.dumps(DEMO)
    assert rule["find"] in text
    write_sealed(tmp_path, text.replace(rule["find"], rule["put"], 1))
    require_verdict(tmp_path, rule, check=False)


def change(folder: Path, step: dict[str, str]) -> None:
    (kind, name), *rest = step.items()
    path = folder / name
    if kind == "remove":
        path.unlink()
    elif kind == "write":
        path.write_text(step["text"])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "move":
        shutil.move(path, folder / step["to"])
    else:
        assert kind == "link" and rest
        path.symlink_to(step["to"])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    folder = tmp_path / "small.bundle"
    (folder / "Unet.mlpackage/Data").mkdir(parents=True)
    for name, text in {
        "Unet.mlpackage/Manifest.json": "{}",
        "Unet.mlpackage/Data/model.mlmodel": "program",
        "Unet.tflite": "network",
        "vocab.json": "{}",
        "merges.txt": "#version",
    }.items():
        (folder / name).write_text(text)
    facts = manifest(unet="Unet.tflite")
    package = {"path": "Unet.mlpackage", "target": "coreml", "inputs": [], "outputs": []}
    facts["components"]["unet"]["files"].append(package)
    write_manifest(folder, facts)
    return folder


@pytest.mark.parametrize("rule", named("files"))
def test_files(small: Path, rule: dict[str, Any]) -> None:
    for step in rule["changes"]:
        change(small, step)
    require_verdict(small, rule, check=True)


def test_the_limits_are_the_table_of_the_other_languages() -> None:
    assert json.loads((FIXTURES / "limits.json").read_text("utf-8")) == asdict(LIMITS)
