"""What the knobs of the Core ML files ask for."""

from __future__ import annotations

from coreml_sd.compress.supported import PaletteSpec, require_supported
from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.mobile import MobileOptions
from coreml_sd.targets.plan import Plan, TargetSettings


def coreml_settings(config: ConversionConfig) -> TargetSettings:
    """Check the knobs of a config.

    Raises:
        UserError: one asks for what the oldest system that must load the files does not have.
    """
    palettes = _palettes(config)
    if config.attention == "sdpa" and config.min_os != "iOS18":
        raise UserError(
            "attention sdpa is an op of iOS18: add --min-os iOS18 or choose split-einsum"
        )
    return TargetSettings(palettes)


def mobile_options(plan: Plan) -> MobileOptions:
    """The options of the mobile form that the files are made from."""
    return MobileOptions(attention=plan.config.attention)  # type: ignore[arg-type]


def _palettes(config: ConversionConfig) -> PaletteSpec | None:
    if config.palettize is None:
        return None
    require_supported(config.palettize, config.granularity, config.min_os)
    if config.granularity == "per-grouped-channel":
        return PaletteSpec(config.palettize, "per-grouped-channel", config.group_size)
    return PaletteSpec(config.palettize)
