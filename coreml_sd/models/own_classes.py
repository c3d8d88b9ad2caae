"""Classes that diffusers does not have, by their names in a folder's files."""

from __future__ import annotations

import importlib
from typing import Any

# The package of `coreml_sd.models` that has each.
OWN_CLASSES = {
    "MobileDiffusionPipeline": "mobile_diffusion",
    "MobileDiffusionUNet": "mobile_diffusion",
    "MobileDiffusionVAE": "mobile_diffusion",
}


def own_class(name: Any) -> Any:
    """The class of a pipeline or network of our own; None for all others."""
    package = OWN_CLASSES.get(name) if isinstance(name, str) else None
    return (
        getattr(importlib.import_module(f"coreml_sd.models.{package}"), name) if package else None
    )
