"""The network that a component's files are made from: as published, pruned, or rescaled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coreml_sd.compress.supported import PRUNED_ROLE
from coreml_sd.metrics import psnr_db
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.weights.values import ModuleWeights, Weights

if TYPE_CHECKING:
    from coreml_sd.compress.solve_ahead import PalettesAhead
    from coreml_sd.mobile.vae_range import Rescaling

_SEED = 0


@dataclass(frozen=True)
class LoadedSource:
    """A source network and, where it was pruned, what that did to it: the fields of `PruneReport`,
    `macs_before`, `macs_after` and `source_db`, its dB to the whole network. Where a VAE was
    brought into the range of fp16, `rescaling` has the fields of `Rescaling`."""

    network: Any
    pruning: dict[str, Any] | None = None
    rescaling: Rescaling | None = None


@dataclass(frozen=True)
class OpenedSource:
    """A source network and the values of its weights, in memory or in files, and as above. `ahead`
    solves palettes of its files meanwhile."""

    network: Any
    weights: Weights
    pruning: dict[str, Any] | None = None
    rescaling: Rescaling | None = None
    ahead: PalettesAhead | None = None

    @property
    def in_memory(self) -> bool:
        """Whether the network holds its weights and can be run."""
        return isinstance(self.weights, ModuleWeights)


def open_source(
    component: ComponentSpec,
    prune: float | None,
    *,
    ahead: PalettesAhead | None = None,
) -> OpenedSource:
    """Open a component's network; its weights are loaded only where pruning asks for it, or where a
    VAE's activations have to be looked at.

    Raises:
        UserError: the files are missing or damaged, or there is nothing to prune.
    """
    from coreml_sd.mobile.vae_range import may_leave_fp16

    opened = component.open()
    pruned = prune is not None and component.role == PRUNED_ROLE
    if not pruned and not may_leave_fp16(component, opened.module):
        return OpenedSource(opened.module, opened.weights, ahead=ahead)
    loaded = load_source(component, prune)
    if not pruned and loaded.rescaling is None:
        return OpenedSource(opened.module, opened.weights, ahead=ahead)
    weights = ModuleWeights(loaded.network)
    return OpenedSource(loaded.network, weights, loaded.pruning, loaded.rescaling)


def load_source(component: ComponentSpec, prune: float | None) -> LoadedSource:
    """Load a component's network; with `prune`, take that part of a UNet's weights out. A VAE is
    brought into the range of fp16.

    Raises:
        UserError: the files are damaged, or there is nothing to prune.
    """
    from coreml_sd.mobile.vae_range import bring_into_range

    network = component.load()
    rescaling = bring_into_range(component, network)
    if prune is None:
        return LoadedSource(network, rescaling=rescaling)
    from coreml_sd.compress.prune import prune_module

    if component.role != PRUNED_ROLE:
        return LoadedSource(network, rescaling=rescaling)
    before = _output(component, network), _macs(component, network)
    report = prune_module(network, prune)
    after = _output(component, network), _macs(component, network)
    facts = {
        **dataclasses.asdict(report),
        "macs_before": before[1],
        "macs_after": after[1],
        "source_db": round(min(psnr_db(a, b) for a, b in zip(before[0], after[0], strict=True)), 2),
    }
    return LoadedSource(network, facts)


def pruning_sentence(name: str, facts: Mapping[str, Any]) -> str:
    """What pruning did to one component, in one line."""
    parameters = facts["parameters_before"], facts["parameters_after"]
    macs = facts["macs_before"], facts["macs_after"]
    return (
        f"{name}: {_less(*parameters)} of the parameters taken out "
        f"({parameters[0]:,} to {parameters[1]:,}), {_less(*macs)} of the multiply-adds "
        f"({macs[0]:,} to {macs[1]:,}); {facts['source_db']:.1f} dB to the whole network"
    )


def _less(before: int, after: int) -> str:
    return f"{100 * (1 - after / before):.1f} %"


def _output(component: ComponentSpec, network: Any) -> list[Any]:
    import torch

    inputs = component.sample_inputs(_SEED)
    tensors = (torch.from_numpy(inputs[spec.name]).float() for spec in component.inputs)
    with torch.inference_mode():
        return [result.numpy() for result in component.published(network)(*tensors)]


def _macs(component: ComponentSpec, network: Any) -> int:
    from coreml_sd.mobile import mobile_form
    from coreml_sd.mobile.measure import network_costs

    return network_costs(mobile_form(component.form, network), component.inputs).macs
