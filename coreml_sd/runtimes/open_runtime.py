"""Open the components of a bundle (or of its source model) on a runtime by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coreml_sd.bundle import Bundle
from coreml_sd.config import from_dict
from coreml_sd.errors import UserError
from coreml_sd.runtimes.base import Network
from coreml_sd.runtimes.chain import Chain

RUNTIMES = ("auto", "torch", "mil", "coreml")


@dataclass(frozen=True)
class Runtime:
    """How one bundle is executed: `name`, what a reader must know (`label`), and `open`, which
    gives the network of a component by its name."""

    name: str
    label: str
    open: Callable[[str], Network]


def open_runtime(bundle: Bundle, name: str = "auto", *, compute_units: str = "all") -> Runtime:
    """A runtime for a bundle; `auto` is Core ML where it exists, else the evaluator.

    Raises:
        UserError: an unknown runtime, or one that cannot run here.
    """
    if name not in RUNTIMES:
        raise UserError(f"runtime {name}: unknown; choose from {', '.join(RUNTIMES)}")
    from coreml_sd.runtimes import coreml

    if name == "auto":
        name = "coreml" if coreml.available() else "mil"
    if name == "torch":
        return _torch(bundle)
    if name == "coreml":
        if not coreml.available():
            raise UserError("the coreml runtime needs macOS; use --runtime mil here")
        return Runtime(
            name,
            coreml.CoreMLNetwork.LABEL,
            lambda component: Chain(
                component,
                [
                    coreml.CoreMLNetwork(path, compute_units=compute_units)
                    for path in bundle.files(component)
                ],
            ),
        )
    from coreml_sd.runtimes.mil import MilNetwork

    return Runtime(
        name,
        MilNetwork.LABEL,
        lambda component: Chain(component, [MilNetwork(path) for path in bundle.files(component)]),
    )


def _torch(bundle: Bundle) -> Runtime:
    """The source model at the bundle's size and batch, in fp32."""
    from coreml_sd.models.open_model import open_model
    from coreml_sd.runtimes.source import SourceNetwork

    model = open_model(from_dict(bundle.manifest["config"], "manifest.json"))
    return Runtime("torch", "source in torch, fp32", lambda c: SourceNetwork(model.component(c)))
