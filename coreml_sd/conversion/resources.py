"""Whether a conversion has the disk and the memory that it will need, asked before the work."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from coreml_sd.conversion.prediction import Prediction
from coreml_sd.costs.network_size import network_size
from coreml_sd.errors import NoRoomError
from coreml_sd.progress import Progress
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.registry import targets


def require_disk(plan: Plan, destination: Path, staged: Path) -> None:
    """Refuse a conversion whose bundle cannot fit.

    The prediction is a lower bound (weights alone, each at its fewest bits), so that nothing is
    refused that would fit. Components in `staged`, from an earlier run, are there already.

    Raises:
        NoRoomError: the file system of `destination` has too little.
    """
    held = sum(file.stat().st_size for file in staged.rglob("*") if file.is_file())
    needed = least_bytes(plan) - held
    free = shutil.disk_usage(_existing(destination)).free
    if free < needed:
        raise NoRoomError(
            f"{destination}: the bundle needs another {_size(needed)} and {_size(free)} are free "
            "there; free some space or choose another -o"
        )


def warn_of_memory(prediction: Prediction, verify: bool, progress: Progress) -> None:
    """One line where less memory is free than the conversion will need at its peak."""
    free = psutil.virtual_memory().available
    if free < prediction.memory:
        remedy = "close other programs"
        if verify:
            remedy += ", or add --no-verify and run `coreml-sd parity` elsewhere"
        progress.warn(
            f"about {_size(prediction.memory)} of memory are needed at the peak and {_size(free)} "
            f"are free: this may be slow or be ended by the system; {remedy}"
        )


def least_bytes(plan: Plan) -> int:
    """Bytes of the bundle's weights, at least."""
    total = 0.0
    for component in plan.components:
        count = network_size(plan.model.folder, component).parameters
        for target in targets(plan.config.targets):
            total += count * target.bytes_per_weight(plan, component.name)
    if plan.config.prune is not None:
        total *= 1 - plan.config.prune
    return int(total)


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
