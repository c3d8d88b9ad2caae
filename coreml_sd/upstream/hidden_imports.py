"""Import diffusers' networks and coremltools without packages that they take along and do not need.

Both import transformers, torchao and others wherever they are installed, for adapters, quantized
weights and some schedulers, and through them torch's compiler: more than half of the seconds that
their imports cost.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from coreml_sd.upstream import table

_MODULES = {
    "diffusers": (
        "diffusers.models.unets.unet_2d_condition",
        "diffusers.models.autoencoders.autoencoder_kl",
    ),
    "coremltools": ("coremltools",),
}
_COMPILER = "torch._dynamo"
_OPTIONAL = ("transformers", "torchao", "peft", "scipy", _COMPILER)
_UNUSED = "coremltools.optimize.torch"  # compression while a network is trained

_allowed = False


def allow_hiding() -> None:
    """Say that this process does nothing but convert, before any of the libraries is loaded."""
    global _allowed
    _allowed = True


def only_converts() -> bool:
    """Whether this process does nothing but convert (`allow_hiding` was called)."""
    return _allowed


def import_libraries() -> None:
    """Import both as if the optional packages were not installed.

    Only where `allow_hiding` was called: in such a process diffusers can load neither
    adapters nor quantized weights any more. Does nothing for what is loaded already; where a
    version of a library cannot do without those packages, the ordinary import follows later.
    """
    if not (_allowed and table.HIDDEN_IMPORTS.is_on):
        return
    import torch.compiler

    for library, names in _MODULES.items():
        if library not in sys.modules:
            hiding = table.HIDDEN_IMPORTS.replaced(torch.compiler, "disable", _as_is)
            with _hidden(), hiding:
                _import(library, names)


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """While open, torch does not load its compiler in vain.

    The first op on a `meta` tensor asks the compiler to leave that op alone, and loading it for
    that takes two seconds. Only where `allow_hiding` was called, and the compiler is not
    loaded already.
    """
    absent: Any = types.ModuleType(_COMPILER)
    absent.disable = _as_is
    wanted = _allowed and table.NO_COMPILER.is_on and _COMPILER not in sys.modules
    with _in_place_of({_COMPILER: absent} if wanted else {}):
        yield


def _import(library: str, names: tuple[str, ...]) -> None:
    try:
        for name in names:
            importlib.import_module(name)
    except Exception:  # whatever a version makes of it
        for name in [name for name in sys.modules if name.split(".")[0] == library]:
            del sys.modules[name]


def _hidden() -> contextlib.AbstractContextManager[None]:
    """Optional packages look as if they were not installed, even one whose outermost part another
    library has loaded already, as numba loads scipy's."""
    # Python raises ImportError for a module that is None, and find_spec finds nothing.
    return _in_place_of({**dict.fromkeys(_OPTIONAL), _UNUSED: types.ModuleType(_UNUSED)})


@contextlib.contextmanager
def _in_place_of(modules: Mapping[str, types.ModuleType | None]) -> Iterator[None]:
    """While open, these stand for the modules of their names."""
    loaded = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(modules)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update(loaded)


def _as_is(function: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
    """`torch.compiler.disable`, which loads the compiler, where nothing is compiled."""
    return function if function is not None else _as_is
