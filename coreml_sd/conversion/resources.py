"""Whether a conversion has the disk and the memory that it will need, asked before the work."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import psutil

from coreml_sd.conversion.plan import Plan
from coreml_sd.conversion.prediction import predict
from coreml_sd.conversion.prediction.disk import TFLITE_WEIGHT_BYTES
from coreml_sd.conversion.prediction.layers import tensor_shapes
from coreml_sd.conversion.prediction.rates import rates
from coreml_sd.errors import NoRoomError
from coreml_sd.progress import Progress


def require_room(plan: Plan, destination: Path, staged: Path) -> None:
    """Refuse a conversion whose bundle cannot fit.

    The prediction is a lower bound (weights alone, each at its fewest bits), so that nothing is
    refused that would fit. Components in `staged`, from an earlier run, are there already.

    Raises:
        NoRoomError: the file system of `destination` has too little.
    """
    held = sum(file.stat().st_size for file in staged.rglob("*") if file.is_file())
    needed = predicted_bytes(plan) - held
    free = shutil.disk_usage(_existing(destination)).free
    if free < needed:
        raise NoRoomError(
            f"{destination}: the bundle needs another {_size(needed)} and {_size(free)} are free "
            "there; free some space or choose another -o"
        )


def warn_of_memory(
    plan: Plan,
    verify: bool,
    progress: Progress,
    jobs: int | None = None,
    memory: int | None = None,
) -> None:
    """One line where less memory is free than the conversion will need at its peak."""
    needed = predicted_memory(plan, verify, jobs, memory)
    free = psutil.virtual_memory().available
    if free < needed:
        remedy = "close other programs"
        if verify:
            remedy += ", or add --no-verify and run `coreml-sd parity` elsewhere"
        progress.warn(
            f"about {_size(needed)} of memory are needed at the peak and {_size(free)} are free: "
            f"this may be slow or be ended by the system; {remedy}"
        )


def predicted_bytes(plan: Plan) -> int:
    """Bytes of the bundle's weights, at least."""
    bits = plan.palettes.bits if plan.palettes else 16
    total = 0.0
    for component in plan.components:
        count = parameters(plan, component.name)
        if "coreml" in plan.config.targets:
            total += count * bits / 8
        if plan.android is not None:
            total += count * TFLITE_WEIGHT_BYTES[plan.android.quantization_of(component.name)]
    if plan.config.prune is not None:
        total *= 1 - plan.config.prune
    return int(total)


def predicted_memory(
    plan: Plan, verify: bool, jobs: int | None = None, memory: int | None = None
) -> int:
    """Bytes at the peak of all processes together."""
    return predict(plan, verify, jobs=jobs, memory=memory, measured=rates().probe).memory


def parameters(plan: Plan, component: str) -> int:
    """How many numbers a component's weight files hold, from their headers."""
    return sum(map(math.prod, tensor_shapes(plan, component).values()))


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
