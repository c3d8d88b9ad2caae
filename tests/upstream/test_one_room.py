"""Other libraries are changed in `coreml_sd/upstream` and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.helpers.foreign_changes import foreign_changes

PACKAGE = Path(__file__).resolve().parents[2] / "coreml_sd"
ROOM = PACKAGE / "upstream"
BELOW = {"errors", "files", "metrics", "processes", "progress", "upstream"}


def test_no_other_module_changes_a_library_or_uses_its_internals() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if ROOM not in path.parents]
    assert len(modules) > 200
    found = {
        path.relative_to(PACKAGE).as_posix(): changes
        for path in modules
        if (changes := foreign_changes(path.read_text("utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.nn.functional.gelu = print",
        "import torch.nn.functional as F\nF.gelu = print",
        "from torch.fx import GraphModule\nGraphModule.recompile = print",
        "def f():\n    from tqdm import tqdm\n    tqdm.__init__ = print",
        "import torch\nkind = torch.fx.GraphModule\nkind.recompile = print",
        "import torch\ndel torch.compiler.disable",
        "import torch\nsetattr(torch.compiler, 'disable', print)",
        "import litert_torch\nlitert_torch.table['x'] = print",
        "def f(module):\n    type(module).forward = print",
        "def f(module):\n    module.__class__.forward = print",
        "import sys\nsys.modules['scipy'] = None",
        "from sys import modules",
        "from unittest import mock",
        "import unittest.mock",
        "from torch._guards import detect_fake_mode",
        "from torch.fx.proxy import _COPY_META_FIELDS",
        "import torch._dynamo",
        "def f(tensor):\n    return tensor.untyped_storage()._cdata",
    ],
)
def test_negative_controls_each_way_to_change_one_is_found(source: str) -> None:
    assert foreign_changes(source)


@pytest.mark.parametrize(
    "source",
    [
        "from torch import nn\nconv = nn.Conv2d(1, 1, 1)\nconv.bias = None",
        "import os\nos.environ['X'] = '1'",
        "class A:\n    def f(self):\n        self._x = 1",
        "import torch\nx = torch.zeros(3)\nx[0] = 1",
    ],
)
def test_what_is_ours_may_be_changed(source: str) -> None:
    assert not foreign_changes(source)


def rooms_of(source: str) -> set[str]:
    """The rooms of the package that a module imports from."""
    tree = ast.parse(source)
    modules = [
        f"{node.module}.{node.names[0].name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
    ]
    return {name.split(".")[1] for name in modules if name.startswith("coreml_sd.")}


def test_the_room_knows_none_above_it() -> None:
    modules = list(ROOM.glob("*.py"))
    assert len(modules) > 10
    for path in modules:
        assert rooms_of(path.read_text("utf-8")) <= BELOW, path.name
    assert not rooms_of("from coreml_sd.mobile.meta import on_meta") <= BELOW
