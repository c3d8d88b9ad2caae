"""The table says what the code does, and the page says what the table does."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coreml_sd.upstream import table
from coreml_sd.upstream.page import tables
from coreml_sd.upstream.patch import Patch
from coreml_sd.upstream.table import INTERNALS, PATCHES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/upstream.md").read_text(encoding="utf-8")
EXTRA = ("litert", "ai_edge")  # of packages that the extra `android` brings


def resolved(place: str) -> Any:
    """What `module:name.in.it` stands for."""
    module, _, names = place.partition(":")
    found: Any = importlib.import_module(module)
    for name in filter(None, names.split(".")):
        found = getattr(found, name)
    return found


def patches_by_constant() -> dict[str, Patch]:
    return {name: value for name, value in vars(table).items() if isinstance(value, Patch)}


def replacements() -> Iterator[tuple[str, str]]:
    """The constant of the table and the attribute of each `table.X.replaced(owner, "name", …)`."""
    for path in (ROOT / "coreml_sd/upstream").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Attribute(attr=constant), attr="replaced"),
                    args=[_, ast.Constant(value=str() as name), _],
                ):
                    yield constant, name


def test_every_entry_is_in_the_table_once() -> None:
    assert sorted(map(id, patches_by_constant().values())) == sorted(map(id, PATCHES))
    assert len({patch.name for patch in PATCHES}) == len(PATCHES)


def test_what_is_replaced_is_what_the_table_says() -> None:
    known, found = patches_by_constant(), list(replacements())
    assert len(found) > 8
    for constant, name in found:
        assert any(place.endswith((f".{name}", f":{name}")) for place in known[constant].attributes)


def test_every_entry_is_used() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "coreml_sd").rglob("*.py"))
    for constant in patches_by_constant():
        assert f"table.{constant}." in code, constant


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_what_is_replaced_exists(patch: Patch) -> None:
    """A newer version that has it no longer needs another change, or none."""
    for place in patch.attributes:
        if place.startswith(EXTRA):
            pytest.importorskip("litert_torch", reason="the extra `android` is not installed")
        if not place.startswith("<") and not place.endswith(":"):  # hidden where it is installed
            assert resolved(place) is not None


def test_negative_control_a_name_that_is_gone_is_noticed() -> None:
    with pytest.raises(AttributeError):
        resolved("torch.fx:GraphModule.no_such")


@pytest.mark.parametrize("name", sorted({each.test for each in (*PATCHES, *INTERNALS)}))
def test_the_tests_exist(name: str) -> None:
    file, *parts = name.split("::")
    text = (ROOT / file).read_text("utf-8")
    for part in parts:
        assert f"def {part}(" in text or f"class {part}:" in text


def test_every_shortcut_says_what_it_gains_and_nothing_else_does() -> None:
    for patch in PATCHES:
        assert bool(patch.gain) == (patch.kind == "shortcut"), patch.name


@pytest.mark.parametrize("name", ["patches", "internals"])
def test_the_page_shows_the_table(name: str) -> None:
    assert tables()[name] in PAGE, "python -m coreml_sd.upstream.page prints what belongs there"


def test_negative_control_another_gain_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = [Patch("x", "shortcut", ("a:b",), "why", "1", "test", "all"), *PATCHES[1:]]
    monkeypatch.setattr("coreml_sd.upstream.page.PATCHES", changed)
    assert tables()["patches"] not in PAGE
