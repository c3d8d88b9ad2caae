"""What the knobs of the TFLite files ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.runtimes.litert.extra import require_android
from coreml_sd.targets.plan import Plan, TargetSettings
from coreml_sd.targets.tflite.profiles import Profile, Quantization, profile
from coreml_sd.targets.tflite.quantize import KEPT_IN_FP16, for_component


@dataclass(frozen=True)
class TFLiteSettings(TargetSettings):
    """A device profile, and the quantization that was settled on."""

    profile: Profile = profile("gpu")
    quantization: Quantization = "fp16"

    def quantization_of(self, component: str) -> Quantization:
        """Of one component: VAEs keep fp16."""
        return for_component(component, self.quantization)


def tflite_settings(config: ConversionConfig) -> TFLiteSettings:
    """Check the knobs of a config.

    Raises:
        UserError: the converter is not installed, or the profile cannot have the quantization.
    """
    require_android("litert_torch")
    require_android("ai_edge_quantizer")
    chosen = profile(config.android_profile)
    quantization = chosen.quantization if config.palettize is None else chosen.palettize_as
    if config.quantize is not None:
        quantization = config.quantize  # type: ignore[assignment]
    if quantization == "dynamic-int8" and chosen.accelerator == "gpu":
        raise UserError(
            f"quantize dynamic-int8 rounds activations on the CPU only, and {chosen.name} is a "
            "GPU profile: choose int8, or --android-profile cpu"
        )
    return TFLiteSettings(profile=chosen, quantization=quantization)


def refuse_unused(config: ConversionConfig) -> None:
    """Refuse a quantization without files that could have it.

    Raises:
        UserError: there is one.
    """
    if config.quantize is not None:
        raise UserError(
            f"quantize {config.quantize} is for TFLite files: add --target tflite, or choose "
            "--palettize for Core ML"
        )


def settings_of(plan: Plan) -> TFLiteSettings:
    """Those of a plan that has TFLite files."""
    settings = plan.settings["tflite"]
    assert isinstance(settings, TFLiteSettings)
    return settings


def tflite_notes(
    config: ConversionConfig, settings: TFLiteSettings, components: Sequence[str]
) -> list[str]:
    """What the files get instead of what only Core ML has."""
    notes = []
    if config.palettize is not None:
        notes.append(
            f"tflite has no palettes: --palettize {config.palettize} becomes "
            f"{settings.quantization} weights"
        )
    if config.quantize is None and config.palettize is None:
        notes.append(f"tflite: {settings.quantization} weights (profile {settings.profile.name})")
    if "int8" in settings.quantization and {*KEPT_IN_FP16} & {*components}:
        notes.append("tflite: the VAE keeps fp16 weights")
    if config.attention != "split-einsum":
        notes.append(
            f"tflite: attention {config.attention} is Core ML's; one batched matmul is used, "
            "queries in pieces"
        )
    if config.chunks not in ("auto", "1"):
        notes.append(f"tflite: the UNet stays one file (--chunks {config.chunks} is Core ML's)")
    return notes
