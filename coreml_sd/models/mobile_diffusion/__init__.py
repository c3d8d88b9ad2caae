"""MobileDiffusion: a text-to-image model whose every part was chosen for phones.

Source: "MobileDiffusion: Instant Text-to-Image Generation on Mobile Devices", arXiv 2311.16567. Its
weights were never published; the architecture here follows what is known of the paper, and each
docstring says which figures are the paper's and which are ours.
"""

from __future__ import annotations

from typing import Any

__all__ = ["MobileDiffusionPipeline", "MobileDiffusionUNet", "MobileDiffusionVAE"]


def __getattr__(name: str) -> Any:  # the classes bring torch and diffusers
    if name == "MobileDiffusionUNet":
        from coreml_sd.models.mobile_diffusion.unet import MobileDiffusionUNet

        return MobileDiffusionUNet
    if name == "MobileDiffusionVAE":
        from coreml_sd.models.mobile_diffusion.vae import MobileDiffusionVAE

        return MobileDiffusionVAE
    if name == "MobileDiffusionPipeline":
        from coreml_sd.models.mobile_diffusion.pipeline import MobileDiffusionPipeline

        return MobileDiffusionPipeline
    raise AttributeError(name)
