"""Open a model by name: find it, recognise its family, describe its components."""

from __future__ import annotations

from coreml_sd.config import ConversionConfig, parse_size
from coreml_sd.errors import UserError
from coreml_sd.models import stable_diffusion, stable_diffusion_xl
from coreml_sd.models.diffusers_folder import INDEX_NAME, DiffusersFolder
from coreml_sd.models.pipeline import DiffusionModel
from coreml_sd.models.source import find_source

FAMILIES = (stable_diffusion.FAMILY, stable_diffusion_xl.FAMILY)


def open_model(config: ConversionConfig) -> DiffusionModel:
    """Describe the config's model at the config's size and batch, without loading weights.

    Raises:
        UserError: the model is not found, is of an unknown kind, or cannot have that size.
    """
    source = find_source(config.model, config.revision)
    folder = DiffusersFolder(source.folder)
    pipeline_class = folder.index.get("_class_name")
    for family in FAMILIES:
        if pipeline_class in family.pipeline_classes:
            size = parse_size(config.size) if config.size else None
            return family.describe(source, folder, size, config.batch)
    known = ", ".join(name for family in FAMILIES for name in family.pipeline_classes)
    raise UserError(
        f"{source.folder / INDEX_NAME}: pipeline class {pipeline_class} is not supported "
        f"(supported: {known})"
    )
