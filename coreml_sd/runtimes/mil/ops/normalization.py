"""Norms and softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_sd.runtimes.mil.ops.registry import op


@op("layer_norm", static=("axes", "epsilon"))
def layer_norm(
    x: Tensor,
    axes: tuple[int, ...],
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Over `axes`; gamma and beta have the shape of those axes."""
    if axes in ((x.ndim - 1,), (-1,)):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], gamma, beta, epsilon)
    variance, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
    normal = (x - mean) * torch.rsqrt(variance + epsilon)
    shape = [n if axis in axes or axis - x.ndim in axes else 1 for axis, n in enumerate(x.shape)]
    if gamma is not None:
        normal = normal * gamma.reshape(shape)
    return normal if beta is None else normal + beta.reshape(shape)


@op("batch_norm", static=("epsilon",))
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Fixed statistics per channel (axis 1)."""
    return torch.nn.functional.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon)


@op("instance_norm", static=("epsilon",))
def instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    """Over the spatial axes of each channel."""
    return torch.nn.functional.instance_norm(x, weight=gamma, bias=beta, eps=epsilon)


@op("softmax", static=("axis",))
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.softmax(dim=axis)
