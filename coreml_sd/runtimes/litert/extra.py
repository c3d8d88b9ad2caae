"""The extra `android`: found, or an error that names the pip command."""

from __future__ import annotations

import importlib.util

from coreml_sd.errors import UserError

INSTALL = "pip install 'coreml-sd[android]'"


def available(module: str = "ai_edge_litert") -> bool:
    """Whether a module of the extra `android` is installed."""
    return importlib.util.find_spec(module) is not None


def require_android(module: str = "ai_edge_litert") -> None:
    """Check that a module of the extra can be imported.

    Raises:
        UserError: it is not installed.
    """
    if not available(module):
        raise UserError(f"TFLite needs the extra `android` ({module} is missing): {INSTALL}")
