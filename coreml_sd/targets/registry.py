"""Every target by its name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from coreml_sd.errors import UserError
from coreml_sd.targets.coreml.target import CoreMLTarget
from coreml_sd.targets.target import Target
from coreml_sd.targets.tflite.target import TFLiteTarget

_ALL: tuple[Target, ...] = (CoreMLTarget(), TFLiteTarget())
TARGETS: dict[str, Target] = {target.name: target for target in _ALL}


def targets(names: Iterable[str]) -> list[Target]:
    """The targets of these names, in their order."""
    return [TARGETS[name] for name in names]


def target_of(path: Path) -> Target:
    """The target that a saved file belongs to.

    Raises:
        UserError: none has files of this kind.
    """
    for target in TARGETS.values():
        if path.suffix == target.suffix:
            return target
    suffixes = " or ".join(target.suffix for target in TARGETS.values())
    raise UserError(f"{path}: not a file of a bundle ({suffixes})")
