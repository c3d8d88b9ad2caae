"""Device profiles: what a kind of Android device wants of a file, as one table."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from coreml_sd.errors import UserError

Quantization = Literal["fp32", "fp16", "int8", "dynamic-int8"]
Gelu = Literal["exact", "clipped"]

# On the CPU fewer pieces are faster, and XNNPACK leaves a join of 16 to a kernel outside of it, but
# takes one of 4: what the largest attention of SD 1.5 is cut into at batch 1.
_CPU_LIMIT = 128 * 2**20
_NO_LIMIT = 0
# The least maxStorageBufferRange of Vulkan. The GPU delegate binds a table as one buffer without
# asking for its limit: lavapipe, which has just this, reads wrong rows of a larger one, without an
# error (measured with LiteRT 2.3.0: 117 MiB right to 4e-7, 145 MiB wrong, stored as fp32 or int8).
_LEAST_BUFFER = 128 * 2**20
_WINOGRAD_SLICES = 36  # a 4x4 output tile is computed from 6x6 transformed values


@dataclass(frozen=True)
class Winograd:
    """When the GPU delegate runs a 3x3 convolution of stride 1 by Winograd's algorithm.

    Source: "Speed Is All You Need", arXiv 2304.11267 (T2.5); thresholds of the delegate's
    operation selector. `slices` are groups of four channels, `tiles` of 4x4 output pixels.
    """

    min_slices: int
    min_tiles: int

    def runs(self, channels_in: int, channels_out: int, height: int, width: int) -> bool:
        """Whether a 3x3 convolution of stride 1 on a map of this size is run so."""
        slices = min(ceil(channels_in / 4), ceil(channels_out / 4))
        tiles = ceil(height / 4) * ceil(width / 4)
        return slices >= self.min_slices and tiles >= self.min_tiles


@dataclass(frozen=True)
class Profile:
    """What one kind of device wants.

    `image_limit` is the largest side of a GPU image in texels (0: no images). `quantization` is
    the default for the text encoder and the UNet, `palettize_as` what stands in for palettes,
    which TFLite does not have. `gelu` clipped spells GELU in plain ops (T1.4). `tensor_limit` is
    the largest attention tensor in bytes at fp32; longer ones are cut along the queries.
    `table_limit` is that of a table of embeddings, cut along the channels (0: never cut).
    """

    name: str
    description: str
    accelerator: Literal["cpu", "gpu"]
    image_limit: int
    winograd: Winograd | None
    quantization: Quantization
    palettize_as: Quantization
    gelu: Gelu
    tensor_limit: int = 32 * 2**20
    table_limit: int = _LEAST_BUFFER

    def convolution_fits(
        self, channels_in: int, channels_out: int, height: int, width: int
    ) -> bool:
        """Whether the images of a 3x3 convolution of stride 1 fit.

        Winograd's transformed input and output are 36 * channels / 4 texels high.
        Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193 (T1.2).
        """
        if self.winograd is None or not self.winograd.runs(
            channels_in, channels_out, height, width
        ):
            return True
        highest = _WINOGRAD_SLICES * ceil(max(channels_in, channels_out) / 4)
        return highest <= self.image_limit


_TABLE = (
    Profile(
        "cpu", "any phone, XNNPACK", "cpu", 0, None, "dynamic-int8", "dynamic-int8", "exact",
        _CPU_LIMIT, _NO_LIMIT,
    ),
    Profile(
        "gpu", "any GPU of the delegate", "gpu", 16384, Winograd(16, 32), "fp16", "int8", "exact"
    ),
    Profile(
        "adreno7xx", "Snapdragon 8 Gen 1 and newer", "gpu", 16384, Winograd(32, 64), "int8", "int8",
        "exact",
    ),
    Profile(
        "adreno6xx", "Snapdragon 888 and older", "gpu", 16384, Winograd(32, 128), "int8", "int8",
        "clipped",
    ),
    Profile(
        "mali", "Exynos, Tensor, MediaTek", "gpu", 16384, Winograd(16, 32), "fp16", "int8",
        "clipped",
    ),
)  # fmt: skip
PROFILES = {profile.name: profile for profile in _TABLE}


def profile(name: str) -> Profile:
    """A profile by its name.

    Raises:
        UserError: an unknown name.
    """
    if name not in PROFILES:
        raise UserError(f"android profile {name}: choose from {', '.join(PROFILES)}")
    return PROFILES[name]
