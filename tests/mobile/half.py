"""Arithmetic in fp16 as a phone does it, emulated on fp32 tensors."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class HalfRounding(TorchDispatchMode):
    """Rounds the result of every op to fp16, as a phone does; remembers whether all was finite."""

    finite = True

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            result = result.half().float()
            self.finite = self.finite and bool(torch.isfinite(result).all())
        return result


class HalfSums(HalfRounding):
    """Also holds the sum inside every mean in fp16, as the Android GPU delegate does."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is not torch.ops.aten.mean.dim:
            return super().__torch_dispatch__(function, types, args, kwargs)
        x, axes = args[:2]
        total = x.sum(axes, keepdim=True).half().float()
        self.finite = self.finite and bool(torch.isfinite(total).all())
        return (total / (x.numel() / total.numel())).half().float()
