"""What compression can be asked for, and which system can load it. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coreml_sd.errors import UserError

Granularity = Literal["per-tensor", "per-grouped-channel"]

PALETTE_BITS = (1, 2, 3, 4, 6, 8)

PRUNED_ROLE = "denoiser"  # of the component that channels are taken out of
LARGEST_PRUNE_FRACTION = 0.4
PRUNE_BLOCK = 32  # channels; what phone kernels work on at a time

_IOS16_BITS = (1, 2, 4, 6, 8)
_SYSTEMS = ("iOS16", "iOS17", "iOS18")


@dataclass(frozen=True)
class PaletteSpec:
    """How weights are palettized: bits per index, and how much of a weight shares one palette.

    `group_size` counts rows of the first axis (output channels) and belongs to
    "per-grouped-channel" alone.

    Raises:
        UserError: a value that no Core ML file can hold.
    """

    bits: int
    granularity: Granularity = "per-tensor"
    group_size: int | None = None

    def __post_init__(self) -> None:
        if self.bits not in PALETTE_BITS:
            choices = ", ".join(str(bits) for bits in PALETTE_BITS)
            raise UserError(f"{self.bits}-bit palettes do not exist: choose from {choices}")
        if self.granularity not in ("per-tensor", "per-grouped-channel"):
            raise UserError(
                f"granularity {self.granularity!r}: choose per-tensor or per-grouped-channel"
            )
        if self.granularity == "per-tensor" and self.group_size is not None:
            raise UserError(
                f"group size {self.group_size} has no meaning per tensor: "
                "leave it out or choose per-grouped-channel"
            )
        if self.granularity == "per-grouped-channel" and (self.group_size or 0) < 1:
            raise UserError(f"group size {self.group_size}: give a number of channels from 1")


def require_supported(bits: int, granularity: str, min_os: str) -> None:
    """Refuse what the oldest asked-for system cannot load.

    Raises:
        UserError: names the reason (constexpr_lut_to_dense of that system) and the remedy.
    """
    if bits not in PALETTE_BITS:
        choices = ", ".join(str(allowed) for allowed in PALETTE_BITS)
        raise UserError(f"{bits}-bit palettes do not exist: choose from {choices}")
    if min_os not in _SYSTEMS:
        raise UserError(f"min OS {min_os}: choose from {', '.join(_SYSTEMS)}")
    if min_os == "iOS18":
        return
    if bits not in _IOS16_BITS:
        near = ", ".join(str(allowed) for allowed in _IOS16_BITS if abs(allowed - bits) <= 1)
        raise UserError(f"{bits}-bit palettes need iOS18: add --min-os iOS18 or choose {near}")
    if granularity == "per-grouped-channel":
        raise UserError(
            "per-grouped-channel palettes need iOS18: "
            "add --min-os iOS18 or choose --granularity per-tensor"
        )


def require_prune_fraction(fraction: float) -> None:
    """Refuse a part of the UNet's parameters that cannot be taken out.

    Raises:
        UserError: the fraction is not above 0 and at most 0.4.
    """
    if not 0 < fraction <= LARGEST_PRUNE_FRACTION:
        raise UserError(
            f"prune = {fraction}: give the part of the UNet's weights to take out, "
            f"above 0 and up to {LARGEST_PRUNE_FRACTION}"
        )
