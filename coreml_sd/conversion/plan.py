"""What a conversion will do, decided before any weight is read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from coreml_sd.compress.supported import PaletteSpec, require_prune_fraction, require_supported
from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.open_model import open_model
from coreml_sd.models.pipeline import DiffusionModel
from coreml_sd.runtimes.litert.extra import require_android
from coreml_sd.targets.tflite.profiles import Profile, Quantization, profile
from coreml_sd.targets.tflite.quantize import for_component


@dataclass(frozen=True)
class AndroidPlan:
    """What the TFLite files get: a device profile and the quantization that was settled on."""

    profile: Profile
    quantization: Quantization

    def quantization_of(self, component: str) -> Quantization:
        """Of one component: VAEs keep fp16."""
        return for_component(component, self.quantization)


@dataclass(frozen=True)
class Plan:
    """A conversion with every choice made. `notes` say where a target does something else than a
    knob asks for, and what; `threads` is how many the work on weights may use (None: all)."""

    config: ConversionConfig
    model: DiffusionModel
    components: tuple[ComponentSpec, ...]
    palettes: PaletteSpec | None
    android: AndroidPlan | None
    notes: tuple[str, ...]
    threads: int | None = None


def plan_conversion(config: ConversionConfig) -> Plan:
    """Check every knob against the model and the targets, and fill in what was left open.

    Raises:
        UserError: the model is not usable, or a knob asks for what cannot be had.
    """
    palettes = _palette_spec(config)
    if "coreml" in config.targets and config.attention == "sdpa" and config.min_os != "iOS18":
        raise UserError(
            "attention sdpa is an op of iOS18: add --min-os iOS18 or choose split-einsum"
        )
    if config.prune is not None:
        require_prune_fraction(config.prune)
    if config.quantize is not None and "tflite" not in config.targets:
        raise UserError(
            f"quantize {config.quantize} is for TFLite files: add --target tflite, or choose "
            "--palettize for Core ML"
        )
    android = _android_plan(config) if "tflite" in config.targets else None
    model = open_model(config)
    height, width = model.facts.size
    names = config.components or [component.name for component in model.components]
    resolved = dataclasses.replace(config, size=f"{height}x{width}", components=names)
    components = tuple(model.component(name) for name in names)
    notes = (*model.notes, *_notes(config, android, names))
    return Plan(resolved, model, components, palettes, android, notes)


def _palette_spec(config: ConversionConfig) -> PaletteSpec | None:
    if config.palettize is None or "coreml" not in config.targets:
        return None
    require_supported(config.palettize, config.granularity, config.min_os)
    if config.granularity == "per-grouped-channel":
        return PaletteSpec(config.palettize, "per-grouped-channel", config.group_size)
    return PaletteSpec(config.palettize)


def _android_plan(config: ConversionConfig) -> AndroidPlan:
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
    return AndroidPlan(chosen, quantization)


def _notes(
    config: ConversionConfig, android: AndroidPlan | None, components: list[str]
) -> list[str]:
    """What the TFLite files get instead of what only Core ML has."""
    if android is None:
        return []
    notes = []
    if config.palettize is not None:
        notes.append(
            f"tflite has no palettes: --palettize {config.palettize} becomes "
            f"{android.quantization} weights"
        )
    if config.quantize is None and config.palettize is None:
        notes.append(f"tflite: {android.quantization} weights (profile {android.profile.name})")
    if "int8" in android.quantization and {"vae_decoder", "vae_encoder"} & {*components}:
        notes.append("tflite: the VAE keeps fp16 weights")
    if config.attention != "split-einsum":
        notes.append(
            f"tflite: attention {config.attention} is Core ML's; one batched matmul is used, "
            "queries in pieces"
        )
    if config.chunks not in ("auto", "1"):
        notes.append(f"tflite: the UNet stays one file (--chunks {config.chunks} is Core ML's)")
    return notes
