"""Latent consistency models of Stable Diffusion: few steps, and the guidance as an input.

Source: "Latent Consistency Models", arXiv 2310.04378.
"""

from __future__ import annotations

from coreml_sd.errors import UserError
from coreml_sd.models.find_model import Source
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.pipeline import DiffusionModel, Family
from coreml_sd.models.stable_diffusion import family as stable_diffusion

_ADVICE = (8.5, 4)  # guidance and steps of diffusers' pipeline


def describe(
    source: Source, folder: DiffusersFolder, size: tuple[int, int] | None, batch: int
) -> DiffusionModel:
    """Describe a folder at a picture size; the UNet has one row, whatever the batch.

    Raises:
        UserError: as for Stable Diffusion, or a UNet that is not told the guidance.
    """
    model = stable_diffusion.describe(
        source, folder, size, batch, family=FAMILY.name, usual=_ADVICE
    )
    if model.facts.denoiser.guidance != "embedded":
        raise UserError(
            f"{folder.path}/unet/config.json: no time_cond_proj_dim: a latent consistency model's "
            "UNet is told the guidance; name the pipeline StableDiffusionPipeline"
        )
    return model


FAMILY = Family(
    name="latent-consistency",
    pipeline_classes=("LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"),
    describe=describe,
)
