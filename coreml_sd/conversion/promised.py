"""What a conversion promises to write: a bundle that lacks any of it is not finished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coreml_sd.errors import CoremlSDError
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.folder.tokenizer_files import MERGES_NAME, VOCAB_NAME
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.registry import targets
from coreml_sd.targets.target import Target


def lacking(plan: Plan, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What the config promises and a manifest does not have, a few words each.

    Which files make a network for a target is in the manifest; that there are some is not.
    """
    listed, chosen = manifest["files"], targets(plan.config.targets)
    further = {key: name for target in chosen for key, name in target.further_files(plan).items()}
    yield from (n for n in (VOCAB_NAME, MERGES_NAME, *further.values()) if n not in listed)
    yield from (key for key in further if key not in manifest)
    for component in plan.components:
        if component.name not in manifest["components"]:
            yield component.name
            continue
        files = manifest["components"][component.name]["files"]
        for target in chosen:
            yield from _lacking_files(component, target, files, listed)


def _lacking_files(
    component: ComponentSpec, target: Target, files: list[dict[str, Any]], listed: Mapping[str, Any]
) -> Iterator[str]:
    paths = [file["path"] for file in files if file["target"] == target.name]
    if not paths:
        yield f"{component.name} for {target.name}"
    yield from (name for name in map(target.content, paths) if name not in listed)


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
