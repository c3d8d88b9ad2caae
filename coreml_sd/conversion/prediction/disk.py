"""Bytes of a bundle, from the plan of what is stored how."""

from __future__ import annotations

from coreml_sd.compress.supported import PRUNED_ROLE
from coreml_sd.conversion.prediction.rates import Rates
from coreml_sd.costs.network_size import NetworkSize
from coreml_sd.models.folder.tokenizer_files import MERGES_NAME, VOCAB_NAME
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.registry import targets


def bundle_bytes(plan: Plan, sizes: dict[str, NetworkSize], rates: Rates) -> int:
    """Bytes of all files of the bundle: weights as they will be stored (indices, tables, what
    stays fp16), programs, the tokenizer and the manifest."""
    total = _tokenizer_bytes(plan) + _manifest_bytes(plan, sizes, rates)
    for name, size in sizes.items():
        total += weight_bytes(plan, name, size) + _program_bytes(plan, name, size, rates)
    return int(total)


def weight_bytes(plan: Plan, component: str, size: NetworkSize) -> int:
    """Bytes of one component's weights for all targets."""
    chosen = targets(plan.config.targets)
    total = sum(target.weight_bytes(plan, component, size) for target in chosen)
    pruned = plan.model.component(component).role == PRUNED_ROLE
    return int(total * (1 - (plan.config.prune or 0))) if pruned else total


def _program_bytes(plan: Plan, component: str, size: NetworkSize, rates: Rates) -> float:
    each = (rates.program_bytes(target, component) for target in plan.config.targets)
    return sum(each) * len(size.layers)


def _tokenizer_bytes(plan: Plan) -> int:
    """The vocabulary and its merges; a joined file holds both and little else."""
    folder = plan.model.folder.path / "tokenizer"
    files = [folder / name for name in (VOCAB_NAME, MERGES_NAME)]
    held = sum(file.stat().st_size for file in files if file.is_file())
    joined = folder / "tokenizer.json"
    return held or (joined.stat().st_size if joined.is_file() else 0)


def _manifest_bytes(plan: Plan, sizes: dict[str, NetworkSize], rates: Rates) -> float:
    recorded = sum(len(size.layers) for size in sizes.values()) if plan.palettes else 0
    return rates.manifest["bytes"] + rates.manifest["bytes_per_palette"] * recorded
