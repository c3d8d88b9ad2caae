"""Elementwise ops: arithmetic, comparison, activation, cast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coreml_sd.errors import CoremlSDError
from coreml_sd.runtimes.mil.ops.registry import op

_INTEGER_RANGES = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
    "int32": (-(2**31), 2**31 - 1),
}


@op("add")
def add(x: Tensor, y: Tensor) -> Tensor:
    return x + y


@op("sub")
def sub(x: Tensor, y: Tensor) -> Tensor:
    return x - y


@op("mul")
def mul(x: Tensor, y: Tensor) -> Tensor:
    return x * y


@op("real_div")
def real_div(x: Tensor, y: Tensor) -> Tensor:
    if not x.is_floating_point():  # integers divide towards zero in MIL
        return torch.div(x, y, rounding_mode="trunc")
    return x / y


@op("floor_div")
def floor_div(x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode="floor")


@op("mod")
def mod(x: Tensor, y: Tensor) -> Tensor:
    return torch.remainder(x, y)


@op("pow")
def power(x: Tensor, y: Tensor) -> Tensor:
    return torch.pow(x, y)


@op("maximum")
def maximum(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x, y)


@op("minimum")
def minimum(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(x, y)


@op("abs")
def absolute(x: Tensor) -> Tensor:
    return x.abs()


@op("sign")
def sign(x: Tensor) -> Tensor:
    return x.sign()


@op("square")
def square(x: Tensor) -> Tensor:
    return x * x


@op("sqrt")
def sqrt(x: Tensor) -> Tensor:
    return x.sqrt()


@op("rsqrt", static=("epsilon",))
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    return torch.rsqrt(x + epsilon)


@op("inverse", static=("epsilon",))
def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    return 1.0 / (x + epsilon)


@op("exp")
def exp(x: Tensor) -> Tensor:
    return x.exp()


@op("exp2")
def exp2(x: Tensor) -> Tensor:
    return x.exp2()


@op("log", static=("epsilon",))
def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    return torch.log(x + epsilon)


@op("sin")
def sin(x: Tensor) -> Tensor:
    return x.sin()


@op("cos")
def cos(x: Tensor) -> Tensor:
    return x.cos()


@op("tanh")
def tanh(x: Tensor) -> Tensor:
    return x.tanh()


@op("erf")
def erf(x: Tensor) -> Tensor:
    return x.erf()


@op("floor")
def floor(x: Tensor) -> Tensor:
    return x.floor()


@op("ceil")
def ceil(x: Tensor) -> Tensor:
    return x.ceil()


@op("round")
def round_half_even(x: Tensor) -> Tensor:
    return x.round()


@op("clip", static=("alpha", "beta"))
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.clamp(alpha, beta)


@op("threshold", static=("alpha",))
def threshold(x: Tensor, alpha: float) -> Tensor:
    return x.clamp(min=alpha)


@op("relu")
def relu(x: Tensor) -> Tensor:
    return x.relu()


@op("leaky_relu", static=("alpha",))
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    return F.leaky_relu(x, alpha)


@op("sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    return x.sigmoid()


@op("silu")
def silu(x: Tensor) -> Tensor:
    return F.silu(x)


@op("softplus")
def softplus(x: Tensor) -> Tensor:
    return F.softplus(x)


@op("gelu", static=("mode",))
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "EXACT":
        return F.gelu(x)
    if mode == "TANH_APPROXIMATION":
        return F.gelu(x, approximate="tanh")
    return x * torch.sigmoid(1.702 * x)


@op("equal")
def equal(x: Tensor, y: Tensor) -> Tensor:
    return x == y


@op("not_equal")
def not_equal(x: Tensor, y: Tensor) -> Tensor:
    return x != y


@op("greater")
def greater(x: Tensor, y: Tensor) -> Tensor:
    return x > y


@op("greater_equal")
def greater_equal(x: Tensor, y: Tensor) -> Tensor:
    return x >= y


@op("less")
def less(x: Tensor, y: Tensor) -> Tensor:
    return x < y


@op("less_equal")
def less_equal(x: Tensor, y: Tensor) -> Tensor:
    return x <= y


@op("logical_and")
def logical_and(x: Tensor, y: Tensor) -> Tensor:
    return torch.logical_and(x, y)


@op("logical_or")
def logical_or(x: Tensor, y: Tensor) -> Tensor:
    return torch.logical_or(x, y)


@op("logical_not")
def logical_not(x: Tensor) -> Tensor:
    return torch.logical_not(x)


@op("select")
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond.bool(), a, b)


@op("identity", moves=True)
def identity(x: Tensor) -> Tensor:
    return x


@op("cast", static=("dtype",))
def cast(x: Tensor, dtype: str) -> Tensor:
    """To "fp16", "fp32", "bool" or an integer; towards zero, and an error outside its range."""
    if dtype in ("fp16", "fp32"):
        return x.float()
    if dtype == "bool":
        return x != 0
    low, high = _INTEGER_RANGES[dtype]
    whole = x.trunc() if x.is_floating_point() else x
    if whole.numel() and not whole.is_meta and not (whole.min() >= low and whole.max() <= high):
        raise CoremlSDError(f"{float(whole.min())}..{float(whole.max())} does not fit {dtype}")
    return whole.to(torch.int32)
