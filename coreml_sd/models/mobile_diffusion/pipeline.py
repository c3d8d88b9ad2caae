"""MobileDiffusion as a diffusers pipeline."""

from __future__ import annotations

from diffusers import StableDiffusionPipeline


class MobileDiffusionPipeline(StableDiffusionPipeline):  # type: ignore[misc]
    """Stable Diffusion's pipeline over a `MobileDiffusionUNet` and a `MobileDiffusionVAE`.

    Save and load folders with `save_pretrained` and `from_pretrained`.
    """
