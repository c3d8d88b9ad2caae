"""Open the components of a bundle (or of its source model) on a runtime by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from coreml_sd.bundle import Bundle
from coreml_sd.config import from_dict
from coreml_sd.errors import UserError
from coreml_sd.runtimes.base import Network
from coreml_sd.runtimes.chain import Chain

if TYPE_CHECKING:
    from coreml_sd.runtimes.litert.loop import ResidentLoop

RUNTIMES = ("auto", "torch", "mil", "coreml", "litert")
# Which target's files each runtime executes, the best first.
_EXECUTES = {"coreml": "coreml", "mil": "coreml", "litert": "tflite"}

MemoryPolicy = Literal["all-resident", "pipelined", "stage-by-stage"]
MEMORY_POLICIES: tuple[MemoryPolicy, ...] = ("all-resident", "pipelined", "stage-by-stage")


@dataclass(frozen=True)
class Runtime:
    """How one bundle is executed: `name`, what a reader must know (`label`), and `open`, which
    gives the network of a component by its name. `memory_policy` is how much of a pipeline it
    keeps in memory unless told otherwise; `resident_loop`, where there is one, gives the denoising
    loop in the runtime's own buffers for an opened UNet, or None for one that it cannot run."""

    name: str
    label: str
    open: Callable[[str], Network]
    memory_policy: MemoryPolicy = "all-resident"
    resident_loop: Callable[[Network], ResidentLoop | None] | None = None


def open_runtime(
    bundle: Bundle, name: str = "auto", *, compute_units: str = "all", accelerator: str = "cpu"
) -> Runtime:
    """A runtime for a bundle; `auto` is the best that can execute its files here.

    Raises:
        UserError: an unknown runtime, one that cannot run here, or one whose files the bundle
            does not hold.
    """
    if name not in RUNTIMES:
        raise UserError(f"runtime {name}: unknown; choose from {', '.join(RUNTIMES)}")
    if name == "auto":
        name = next(each for each, target in _EXECUTES.items() if _suits(each, target, bundle))
    if name == "torch":
        return _torch(bundle)
    if (target := _EXECUTES[name]) not in bundle.targets:
        names = ", ".join(bundle.targets)
        raise UserError(
            f"{bundle.path}: holds no {target} files (it holds {names}) for the {name} runtime; "
            f"convert again with --target {target}"
        )
    if name == "litert":
        return _litert(bundle, accelerator)
    return _coreml(bundle, compute_units) if name == "coreml" else _mil(bundle)


def _suits(name: str, target: str, bundle: Bundle) -> bool:
    from coreml_sd.runtimes import coreml

    return target in bundle.targets and (name != "coreml" or coreml.available())


def _coreml(bundle: Bundle, compute_units: str) -> Runtime:
    from coreml_sd.runtimes import coreml

    if not coreml.available():
        raise UserError("the coreml runtime needs macOS; use --runtime mil here")

    def open_component(component: str) -> Network:
        paths = bundle.files(component, "coreml")
        networks = [coreml.CoreMLNetwork(path, compute_units=compute_units) for path in paths]
        return Chain(component, networks)

    return Runtime("coreml", coreml.CoreMLNetwork.LABEL, open_component)


def _mil(bundle: Bundle) -> Runtime:
    from coreml_sd.runtimes.mil import MilNetwork

    return Runtime(
        "mil",
        MilNetwork.LABEL,
        lambda component: Chain(
            component, [MilNetwork(path) for path in bundle.files(component, "coreml")]
        ),
    )


def _litert(bundle: Bundle, accelerator: str) -> Runtime:
    from coreml_sd.runtimes.litert.loop import open_resident_loop
    from coreml_sd.runtimes.litert.native.environment import environment
    from coreml_sd.runtimes.litert.network import ACCELERATORS, LiteRTNetwork, label

    chosen = next((name for name in ACCELERATORS if name == accelerator), None)
    if chosen is None:
        raise UserError(f"accelerator {accelerator}: choose from {', '.join(ACCELERATORS)}")

    environment()  # the library once, before anything is measured or loaded by another thread

    def open_component(component: str) -> Network:
        return LiteRTNetwork(bundle.file(component, "tflite"), accelerator=chosen)

    return Runtime(
        "litert",
        label(chosen),
        open_component,
        "pipelined",
        lambda unet: open_resident_loop(bundle, unet),
    )


def _torch(bundle: Bundle) -> Runtime:
    """The source model at the bundle's size and batch, in fp32; pruned where the bundle is."""
    from coreml_sd.compress.source_network import load_source
    from coreml_sd.models.open_model import open_model
    from coreml_sd.runtimes.torch_source import SourceNetwork

    config = from_dict(bundle.manifest["config"], "manifest.json")
    model = open_model(config)

    def open_component(name: str) -> Network:
        component = model.component(name)
        return SourceNetwork(component, load_source(component, config.prune).network)

    return Runtime("torch", "source in torch, fp32", open_component)
