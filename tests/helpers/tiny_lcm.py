"""A tiny latent consistency model's folder with seeded random weights."""

from pathlib import Path

from tests.helpers.short_unet import SHORT, with_unet
from tests.helpers.tiny_folder import change_json, name_scheduler

GUIDANCE_WIDTH = 16


def write_lcm_pipeline(stable_diffusion: Path, folder: Path) -> Path:
    """The tiny Stable Diffusion with a short UNet that is told the guidance."""
    with_unet(stable_diffusion, folder, **SHORT, time_cond_proj_dim=GUIDANCE_WIDTH)
    name_scheduler(folder, "LCMScheduler")
    change_json(folder / "model_index.json", _class_name="LatentConsistencyModelPipeline")
    return folder
