"""Convert diffusion models for phones on any computer, and prove what each file does."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coreml_sd.bundle import open_bundle
    from coreml_sd.config import ConversionConfig
    from coreml_sd.conversion.convert import convert
    from coreml_sd.generation.draw import generate

__version__ = "0.1.0"
__all__ = ["ConversionConfig", "convert", "generate", "open_bundle"]

# Where each name is defined; loaded when it is first asked for, because torch takes seconds.
_HOMES = {
    "ConversionConfig": "coreml_sd.config",
    "convert": "coreml_sd.conversion.convert",
    "generate": "coreml_sd.generation.draw",
    "open_bundle": "coreml_sd.bundle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
