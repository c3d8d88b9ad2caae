"""Resampling and pooling of feature maps (B, C, H, W)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.mil.ops.registry import op


@op(
    "upsample_nearest_neighbor",
    static=("scale_factor_height", "scale_factor_width"),
    moves=True,
)
def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> Tensor:
    return F.interpolate(
        x, scale_factor=(float(scale_factor_height), float(scale_factor_width)), mode="nearest"
    )


@op(
    "upsample_bilinear",
    static=("scale_factor_height", "scale_factor_width", "align_corners", "half_pixel_centers"),
)
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    if half_pixel_centers is False and not align_corners:
        raise CoremlSDError("upsample_bilinear without half-pixel centres")
    return F.interpolate(
        x,
        scale_factor=(float(scale_factor_height), float(scale_factor_width)),
        mode="bilinear",
        align_corners=align_corners,
    )


@op("pixel_shuffle", static=("upscale_factor",), moves=True)
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    return F.pixel_shuffle(x, upscale_factor)


@op(
    "avg_pool",
    static=("kernel_sizes", "strides", "pad_type", "pad", "exclude_padding_from_average"),
)
def avg_pool(
    x: Tensor,
    kernel_sizes: tuple[int, ...],
    strides: tuple[int, ...] = (1, 1),
    pad_type: str = "valid",
    pad: tuple[int, ...] = (0, 0, 0, 0),
    exclude_padding_from_average: bool = False,
) -> Tensor:
    _require_plain_padding("avg_pool", pad_type, pad)
    return F.avg_pool2d(x, kernel_sizes, strides)


@op("max_pool", static=("kernel_sizes", "strides", "pad_type", "pad"))
def max_pool(
    x: Tensor,
    kernel_sizes: tuple[int, ...],
    strides: tuple[int, ...] = (1, 1),
    pad_type: str = "valid",
    pad: tuple[int, ...] = (0, 0, 0, 0),
) -> Tensor:
    _require_plain_padding("max_pool", pad_type, pad)
    return F.max_pool2d(x, kernel_sizes, strides)


def _require_plain_padding(name: str, pad_type: str, pad: tuple[int, ...]) -> None:
    if pad_type != "valid" and any(pad):
        raise CoremlSDError(f"{name} with padding")
