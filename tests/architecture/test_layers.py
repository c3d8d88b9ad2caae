"""Rooms import only rooms below them, files have no cycles, and targets and families plug in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.imports import Imports, cycles, imports_of, texts_of

ROOT = Path(__file__).parents[2] / "coreml_sd"
# From the lowest room to the highest.
ROOMS = (
    "errors", "metrics", "progress", "files", "processes", "upstream", "schedulers", "models",
    "mobile", "compress", "config", "manifest", "bundle", "runtimes", "generation", "parity",
    "costs", "lint", "targets", "conversion", "report", "cli",
)  # fmt: skip
LOOSE = {"__init__", "bundle", "config", "errors", "metrics", "progress"}
TARGETS = ("coreml", "tflite")
# Where a target's name may stand: its own rooms, those of the runtimes that execute its files, the
# knobs, what the command says of itself, and the table that names files of its room.
NAMES_TARGETS = (
    "config.py", "cli/", "runtimes/", "upstream/table.py",
    *(f"targets/{name}/" for name in TARGETS),
)  # fmt: skip
FAMILIES = ("stable-diffusion", "stable-diffusion-xl", "mobile-diffusion")
# A family is named by itself, and once for manifests that tell no more than its name.
NAMES_FAMILIES = ("models/", "manifest/defaults.py")


@pytest.fixture(scope="module")
def imports() -> Imports:
    return imports_of(ROOT)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def upward(imports: Imports) -> list[str]:
    """Imports of a room above one's own."""
    height = {name: place for place, name in enumerate(ROOMS)}
    return [
        f"{module} -> {other}"
        for module, others in imports.items()
        for other in others
        if room(module) and room(other) and height[room(other)] > height[room(module)]
    ]


def across(imports: Imports) -> list[str]:
    """Imports from one target's room into another's."""
    owner = re.compile(r"\.targets\.(" + "|".join(TARGETS) + r")\b")

    def target(module: str) -> str | None:
        found = owner.search(module)
        return found and found[1]

    return [
        f"{module} -> {other}"
        for module, others in imports.items()
        for other in others
        if target(module) and target(other) and target(module) != target(other)
    ]


def naming(root: Path, words: tuple[str, ...], allowed: tuple[str, ...]) -> list[str]:
    """Texts in code outside `allowed` that name one of `words`."""
    word = re.compile(r"(?<![\w-])(" + "|".join(words) + r")(?![\w-])")
    return [
        f"{file.relative_to(root)}:{line}"
        for file in sorted(root.rglob("*.py"))
        if not file.relative_to(root).as_posix().startswith(allowed)
        for line, text in texts_of(file)
        if word.search(text)
    ]


def test_rooms_import_only_rooms_below_them(imports: Imports) -> None:
    assert upward(imports) == []


def test_no_two_files_need_each_other(imports: Imports) -> None:
    """The package itself is left out: of it the others read the version, and it hands on the public
    names when they are asked for (test_public_surface.py)."""
    files = {name: others - {ROOT.name} for name, others in imports.items()}
    assert cycles(files) == []


def test_targets_do_not_import_each_other(imports: Imports) -> None:
    assert across(imports) == []


def test_five_modules_lie_loose_at_the_top() -> None:
    assert {file.stem for file in ROOT.glob("*.py")} == LOOSE


def test_every_room_has_its_place(imports: Imports) -> None:
    assert {room(module) for module in imports} - {""} == set(ROOMS)


def test_nothing_outside_its_rooms_names_a_target() -> None:
    assert naming(ROOT, TARGETS, NAMES_TARGETS) == []


def test_nothing_outside_its_room_names_a_family() -> None:
    assert naming(ROOT, FAMILIES, NAMES_FAMILIES) == []


class TestTheChecksNotice:
    """Each of them, on a package that breaks its rule."""

    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        root = tmp_path / "coreml_sd"
        for folder in ("models", "conversion", "targets/coreml", "targets/tflite"):
            (root / folder).mkdir(parents=True)
        return root

    def test_an_import_of_a_room_above(self, package: Path) -> None:
        (package / "conversion/plan.py").write_text("")
        (package / "models/a.py").write_text("import coreml_sd.conversion.plan\n")
        assert upward(imports_of(package)) == ["coreml_sd.models.a -> coreml_sd.conversion.plan"]

    def test_a_lazy_one_too(self, package: Path) -> None:
        (package / "conversion/plan.py").write_text("x = 1\n")
        lazy = "def f():\n    from coreml_sd.conversion.plan import x\n"
        (package / "models/a.py").write_text(lazy)
        assert len(upward(imports_of(package))) == 1

    def test_files_that_need_each_other(self, package: Path) -> None:
        (package / "models/a.py").write_text("from coreml_sd.models import b\n")
        (package / "models/b.py").write_text("def f():\n    import coreml_sd.models.c\n")
        (package / "models/c.py").write_text("from coreml_sd.models.a import b\n")
        names = {f"coreml_sd.models.{name}" for name in "abc"}
        assert cycles(imports_of(package)) == [names]

    def test_one_target_in_the_other(self, package: Path) -> None:
        (package / "targets/tflite/a.py").write_text("")
        (package / "targets/coreml/b.py").write_text("from coreml_sd.targets.tflite import a\n")
        assert len(across(imports_of(package))) == 1

    def test_a_name_in_code_and_not_in_a_docstring(self, package: Path) -> None:
        text = '"""For tflite."""\nname = "coreml-sd"\nif target == "tflite":\n    pass\n'
        (package / "conversion/a.py").write_text(text)
        (package / "targets/tflite/b.py").write_text(text)
        assert naming(package, TARGETS, NAMES_TARGETS) == ["conversion/a.py:3"]
