"""A component whose files are whole, and what the manifest says of it."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict

from coreml_sd.manifest.form import Component, NetworkFacts, Preview, TargetFacts, ToldParity


class FinishedComponent(Struct):
    """What the manifest says of a component whose files are whole; `preview` is of the pipeline's
    latents, from its decoder, and `seconds` what all of it took, which no file says."""

    entry: Component
    seconds: float
    preview: Preview | UnsetType = UNSET


def component_entry(
    facts: NetworkFacts, parts: Iterable[TargetFacts], parity: dict[str, ToldParity]
) -> Component:
    """The manifest entry of a component: what holds for every target, and what is about each."""
    entry = Component(**asdict(facts), files=[], seams=[], weights=[], parity=parity)
    for part in parts:
        for name, value in asdict(part).items():
            if name == "files":
                entry.files += value
            elif value is not UNSET:
                setattr(entry, name, value)
    return entry
