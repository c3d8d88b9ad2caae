"""Open a model by name: find it, recognise its family, describe its components."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from coreml_sd.errors import UserError
from coreml_sd.models.find_model import DEMO_FOLDER, Source, find_source
from coreml_sd.models.folder.diffusers_folder import INDEX_NAME, DiffusersFolder
from coreml_sd.models.folder.few_step_unets import ADVICE_NAME
from coreml_sd.models.latent_consistency import family as latent_consistency
from coreml_sd.models.mobile_diffusion import family as mobile_diffusion
from coreml_sd.models.mobile_diffusion.presets import PRESETS
from coreml_sd.models.picture_size import parse_size
from coreml_sd.models.pipeline import DiffusionModel
from coreml_sd.models.stable_diffusion import family as stable_diffusion
from coreml_sd.models.stable_diffusion_xl import family as stable_diffusion_xl
from coreml_sd.models.weights.seeded import SeededFolder
from coreml_sd.schedulers.own import default_scheduler

FAMILIES = (
    stable_diffusion.FAMILY,
    stable_diffusion_xl.FAMILY,
    latent_consistency.FAMILY,
    mobile_diffusion.FAMILY,
)


class ModelChoice(Protocol):
    """Which model, and for which pictures: these fields of a `ConversionConfig`."""

    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def variant(self) -> str | None: ...
    @property
    def family(self) -> str | None: ...
    @property
    def size(self) -> str | None: ...
    @property
    def batch(self) -> int: ...


def open_model(choice: ModelChoice) -> DiffusionModel:
    """Describe a model at a size and batch, without loading weights.

    Raises:
        UserError: the model is not found, is of an unknown kind, or cannot have that size.
    """
    return _describe(choice, parse_size(choice.size) if choice.size else None)


def own_size(choice: ModelChoice) -> tuple[int, int] | None:
    """Height and width of the pictures that a model makes by itself; None where it does not say."""
    try:
        return _describe(choice, None).facts.size
    except UserError:
        return None


def _describe(choice: ModelChoice, size: tuple[int, int] | None) -> DiffusionModel:
    source = find_source(choice.model, choice.revision, choice.variant, choice.family)
    folder = _open_folder(source, choice.variant)
    pipeline_class = folder.index.get("_class_name")
    for family in FAMILIES:
        if pipeline_class in family.pipeline_classes:
            described = family.describe(source, folder, size, choice.batch)
            if folder.few_step_unets and described.facts.few_steps is None:
                raise UserError(
                    f"{source.folder / ADVICE_NAME}: few_steps: {family.name} models have no UNets "
                    "for few steps yet; take the entry away"
                )
            drawn_with = default_scheduler(described.facts.to_dict()).note
            notes = (*source.notes, *folder.notes, *described.notes, drawn_with)
            return dataclasses.replace(described, notes=tuple(filter(None, notes)))
    known = ", ".join(name for family in FAMILIES for name in family.pipeline_classes)
    raise UserError(
        f"{source.folder / INDEX_NAME}: pipeline class {pipeline_class} is not supported "
        f"(supported: {known})"
    )


def _open_folder(source: Source, variant: str | None) -> DiffusersFolder:
    if source.name in PRESETS and source.folder == DEMO_FOLDER:
        return SeededFolder(source.folder, source.name, PRESETS[source.name])
    return DiffusersFolder(source.folder, wanted_variant=variant)
