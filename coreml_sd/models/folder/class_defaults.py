"""What the libraries' own classes take for a config key that a file leaves out.

The defaults are read from the source of the installed library, which says the same as the class
and costs milliseconds: importing the class brings torch, and a conversion is planned without it.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coreml_sd.models.own_classes import OWN_CLASSES

# class -> library and the folder in it where the class is defined.
_PLACES = {
    "UNet2DConditionModel": ("diffusers", "models/unets"),
    "AutoencoderKL": ("diffusers", "models/autoencoders"),
    "CLIPTextConfig": ("transformers", "models/clip"),
    **{name: ("coreml_sd", f"models/{package}") for name, package in OWN_CLASSES.items()},
}
_SCHEDULERS = ("diffusers", "schedulers")


def with_defaults(config: dict[str, Any], class_name: str) -> dict[str, Any]:
    """A network's config, and the class's own values of the keys that it leaves out."""
    return {**class_defaults(class_name), **config}


@functools.cache
def class_defaults(class_name: str) -> dict[str, Any]:
    """Key -> default of a class of diffusers, transformers or our own; empty for an unknown one."""
    library, folder = _PLACES.get(class_name, _SCHEDULERS)
    for definition in _definitions(library, folder, class_name):
        return {**_fields(definition), **_arguments(definition)}
    return {}


def is_scheduler(class_name: str) -> bool:
    """Whether diffusers has a scheduler of this name."""
    return any(_definitions(*_SCHEDULERS, class_name))


def _definitions(library: str, folder: str, class_name: str) -> Iterator[ast.ClassDef]:
    """The class of that name, from the files that define it."""
    found = importlib.util.find_spec(library)
    for root in (found.submodule_search_locations or ()) if found else ():
        for file in sorted((Path(root) / folder).glob("*.py")):
            text = file.read_text(encoding="utf-8")
            if f"\nclass {class_name}(" not in text:
                continue
            for node in ast.parse(text).body:
                if isinstance(node, ast.ClassDef) and node.name == class_name:
                    yield node


def _fields(definition: ast.ClassDef) -> dict[str, Any]:
    """Annotated fields with a literal value, as newer configs of transformers have them."""
    return {
        node.target.id: value
        for node in definition.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
        for value in _literal(node.value)
    }


def _arguments(definition: ast.ClassDef) -> dict[str, Any]:
    """Arguments of `__init__` with a literal default."""
    for node in definition.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            names = [argument.arg for argument in node.args.args]
            given = names[len(names) - len(node.args.defaults) :]
            pairs = [*zip(given, node.args.defaults, strict=True)]
            pairs += [
                (argument.arg, default)
                for argument, default in zip(
                    node.args.kwonlyargs, node.args.kw_defaults, strict=True
                )
                if default is not None
            ]
            return {name: value for name, default in pairs for value in _literal(default)}
    return {}


def _literal(node: ast.expr) -> list[Any]:
    try:
        return [ast.literal_eval(node)]
    except ValueError:
        return []
