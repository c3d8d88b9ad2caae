"""Where a module changes other libraries or reaches for their internals, found in its source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

# Private by their names, documented and without another way: a process's end, a named tuple's copy,
# and torch's registries of what a module holds.
_ALLOWED = {"_exit", "_replace", "_parameters", "_buffers", "_modules"}


def foreign_changes(source: str) -> list[str]:
    """The lines that assign an attribute of an imported library, touch `sys.modules`, replace
    things through `unittest.mock`, or use a private name of another library."""
    tree = ast.parse(source)
    foreign = _foreign_names(tree)
    found = {
        f"line {node.lineno}: {ast.unparse(node).splitlines()[0][:80]}"
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt | ast.expr) and any(_faults(node, foreign))
    }
    return sorted(found)


def _foreign_names(tree: ast.Module) -> set[str]:
    """Names of other libraries' modules, classes and functions, and of what is taken from them."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                alias.asname or _top(alias.name) for alias in node.names if _foreign(alias.name)
            }
        elif isinstance(node, ast.ImportFrom) and _foreign(node.module):
            names |= {alias.asname or alias.name for alias in node.names}
    while True:
        known = len(names)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Assign)
                and _is_chain(node.value)
                and _root(node.value) in names
            ):
                names |= {each.id for each in node.targets if isinstance(each, ast.Name)}
        if len(names) == known:
            return names


def _faults(node: ast.AST, foreign: set[str]) -> Iterator[bool]:
    match node:
        case (
            ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del())
        ):
            yield _root(node) in foreign
            yield _is_class_of(node)
        case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[owner, *_]):
            yield _root(owner) in foreign
            yield _is_class_of(owner)
    match node:
        case ast.Attribute(value=ast.Name(id="sys"), attr="modules"):
            yield True
        case ast.ImportFrom(module=str() as module, names=names):
            yield module == "sys" and any(alias.name == "modules" for alias in names)
            yield module == "unittest.mock"
            yield module == "unittest" and any(alias.name == "mock" for alias in names)
            parts = [*module.split("."), *(alias.name for alias in names)]
            yield _foreign(module) and any(map(_is_private, parts))
        case ast.Import(names=names):
            for alias in names:
                yield alias.name == "unittest.mock"
                yield _foreign(alias.name) and any(map(_is_private, alias.name.split(".")))
        case ast.Attribute(value=value, attr=attr):
            yield _is_private(attr) and attr not in _ALLOWED and not _is_own(value)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _is_own(value: ast.expr) -> bool:
    """`self`, `cls` and `super()`."""
    called = value.func if isinstance(value, ast.Call) else None
    name = called or value
    return isinstance(name, ast.Name) and name.id in ("self", "cls", "super")


def _is_class_of(node: ast.expr) -> bool:
    """Something of `type(x)` or `x.__class__`."""
    return any(
        (isinstance(each, ast.Call) and ast.unparse(each.func) == "type")
        or (isinstance(each, ast.Attribute) and each.attr == "__class__")
        for each in _chain(node)
    )


def _is_chain(node: ast.expr) -> bool:
    """`a`, `a.b` or `a.b.c`, and not a call: what is called gives something of ours."""
    return not any(isinstance(each, ast.Call) for each in _chain(node))


def _root(node: ast.expr) -> str | None:
    last = list(_chain(node))[-1]
    return last.id if isinstance(last, ast.Name) else None


def _chain(node: ast.expr) -> Iterator[ast.expr]:
    yield node
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
        yield node


def _foreign(module: str | None) -> bool:
    top = _top(module or "")
    return bool(top) and top != "coreml_sd" and top not in sys.stdlib_module_names


def _top(module: str) -> str:
    return module.split(".")[0]
