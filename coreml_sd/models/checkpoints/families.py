"""What a single file does not hold: scheduler, tokenizers and constants of each family.

They are those of the published folders that the files of a family come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_NOISE: Mapping[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "clip_sample": False,
    "prediction_type": "epsilon",
}
END, EXCLAMATION = "<|endoftext|>", "!"


@dataclass(frozen=True)
class TextEncoderFamily:
    """One text encoder of a single file.

    Attributes:
        prefix: of its tensors.
        open_clip: laid out as OpenCLIP does it, else as transformers does.
        act: its activation.
        padding: the token that its tokenizer fills up with.
        unused_layers: last layers that the pipeline never runs, and the folder does not have.
    """

    prefix: str
    open_clip: bool
    act: str
    padding: str
    unused_layers: int = 0


_CLIP = TextEncoderFamily("cond_stage_model.transformer.", False, "quick_gelu", END)
_OPEN_CLIP = TextEncoderFamily("cond_stage_model.model.", True, "gelu", EXCLAMATION, 1)
_XL = (
    TextEncoderFamily("conditioner.embedders.0.transformer.", False, "quick_gelu", END),
    TextEncoderFamily("conditioner.embedders.1.model.", True, "gelu", EXCLAMATION),
)


@dataclass(frozen=True)
class CheckpointFamily:
    """One kind of single file.

    Attributes:
        side: height and width of its pictures in pixels.
        scheduler: its config.
        text: its text encoders, in the order of their use.
        heads: attention heads of each UNet layer; None where a head has 64 channels.
        unet, vae: settings that no shape tells.
    """

    name: str
    pipeline: str
    side: int
    scheduler: Mapping[str, Any]
    text: tuple[TextEncoderFamily, ...]
    heads: int | None = None
    unet: Mapping[str, Any] = field(default_factory=dict)
    vae: Mapping[str, Any] = field(default_factory=dict)
    index: Mapping[str, Any] = field(default_factory=dict)


def _scheduler(kind: str, **changes: Any) -> dict[str, Any]:
    return {"_class_name": kind, **_NOISE, **changes}


SD1 = CheckpointFamily(
    "sd1", "StableDiffusionPipeline", 512, _scheduler("PNDMScheduler"), (_CLIP,), heads=8
)
LCM = CheckpointFamily(
    "lcm",
    "LatentConsistencyModelPipeline",
    512,
    _scheduler("LCMScheduler", original_inference_steps=50, timestep_scaling=10.0),
    (_CLIP,),
    heads=8,
)
SD2 = CheckpointFamily(
    "sd2",
    "StableDiffusionPipeline",
    768,
    _scheduler("DDIMScheduler", prediction_type="v_prediction"),
    (_OPEN_CLIP,),
    unet={"upcast_attention": True},
)
SD2_BASE = CheckpointFamily(
    "sd2-base", "StableDiffusionPipeline", 512, _scheduler("PNDMScheduler"), (_OPEN_CLIP,)
)
SDXL = CheckpointFamily(
    "sdxl",
    "StableDiffusionXLPipeline",
    1024,
    _scheduler("EulerDiscreteScheduler", interpolation_type="linear", timestep_spacing="leading"),
    _XL,
    vae={"scaling_factor": 0.13025, "force_upcast": True},
    index={"force_zeros_for_empty_prompt": True},
)
FAMILIES = {family.name: family for family in (SD1, LCM, SD2, SD2_BASE, SDXL)}
