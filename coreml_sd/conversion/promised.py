"""What a conversion promises to write: a bundle that lacks any of it is not finished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coreml_sd.conversion.plan import Plan
from coreml_sd.errors import CoremlSDError
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.folder.tokenizer_files import MERGES_NAME, VOCAB_NAME
from coreml_sd.schedulers.linear_step import FILE_NAME as SCHEDULER_STEP


def has_scheduler_step(plan: Plan) -> bool:
    """Whether a bundle holds a scheduler step: one with a UNet for TFLite."""
    names = [component.name for component in plan.components]
    return "unet" in names and "tflite" in plan.config.targets


def lacking(plan: Plan, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What the config promises and a manifest does not have, a few words each.

    Which files make a network for a target is in the manifest; that there are some is not.
    """
    listed = manifest["files"]
    for name in (VOCAB_NAME, MERGES_NAME, *([SCHEDULER_STEP] if has_scheduler_step(plan) else [])):
        if name not in listed:
            yield name
    if has_scheduler_step(plan) and "scheduler_step" not in manifest:
        yield "scheduler_step"
    for component in plan.components:
        if component.name not in manifest["components"]:
            yield component.name
            continue
        files = manifest["components"][component.name]["files"]
        for target in plan.config.targets:
            yield from _lacking_files(component, target, files, listed)


def _lacking_files(
    component: ComponentSpec, target: str, files: list[dict[str, Any]], listed: Mapping[str, Any]
) -> Iterator[str]:
    paths = [file["path"] for file in files if file["target"] == target]
    if not paths:
        yield f"{component.name} for {target}"
    for path in paths:
        content = (path,) if target == "tflite" else (f"{path}/Manifest.json",)
        yield from (name for name in content if name not in listed)


def require_whole(plan: Plan, manifest: Mapping[str, Any]) -> None:
    """Refuse to finish a bundle that lacks something.

    Raises:
        CoremlSDError: names it.
    """
    missing = list(lacking(plan, manifest))
    if missing:
        raise CoremlSDError(
            f"the bundle lacks {', '.join(missing)}: files went away while it was written; "
            "run the conversion again"
        )
