"""The modules of a package and what each imports, lazily or only for types too."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Imports = dict[str, set[str]]


def imports_of(root: Path) -> Imports:
    """Module -> the modules of the package at `root` that it imports, anywhere in it."""
    modules = {_name(root, file): file for file in sorted(root.rglob("*.py"))}
    return {
        name: {found for found in _imported(file, root.name, modules) if found != name}
        for name, file in modules.items()
    }


def _name(root: Path, file: Path) -> str:
    parts = [root.name, *file.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(file: Path, package: str, modules: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else str(node.module) for name in names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == package)


def cycles(imports: Imports) -> list[set[str]]:
    """Groups of modules that reach each other."""
    reached = {name: _reach(imports, name) for name in imports}
    groups = {
        frozenset(other for other in reached[name] if name in reached.get(other, ()))
        for name in imports
        if name in reached[name]
    }
    return [set(group) for group in groups]


def _reach(imports: Imports, start: str) -> set[str]:
    found: set[str] = set()
    open_ = [start]
    while open_:
        for name in imports.get(open_.pop(), ()):
            if name not in found:
                found.add(name)
                open_.append(name)
    return found


def texts_of(file: Path) -> Iterator[tuple[int, str]]:
    """Line and value of each text in a module's code; docstrings left out."""
    tree = ast.parse(file.read_text("utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value
