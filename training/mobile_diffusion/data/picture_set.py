"""What a stage asks of its pictures."""

from __future__ import annotations

import random
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class PictureSet(Protocol):
    """Pictures and captions by number: a step draws numbers, so that it can be drawn again."""

    def __len__(self) -> int: ...

    def pictures(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """`[n, h, w, 3]`."""
        ...

    def caption(self, number: int, generator: random.Random) -> str:
        """One of the captions of a picture."""
        ...

    def captions(self) -> list[str]:
        """All captions there are, for a tokenizer to learn from."""
        ...


def to_tensor(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """`[n, h, w, 3]` uint8 to `[n, 3, h, w]`, -1 to 1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """`[n, 3, h, w]`, -1 to 1, to `[n, h, w, 3]` uint8."""
    pixels = ((tensor.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()
