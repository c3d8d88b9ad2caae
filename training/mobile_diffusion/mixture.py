"""Eight Gaussians on a circle: data whose density is known, and what tells how well it is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Mixture:
    """Equal Gaussians with centres on a circle around 0."""

    modes: int = 8
    radius: float = 20.0
    deviation: float = 2.0

    @property
    def centres(self) -> torch.Tensor:
        """`[modes, 2]`."""
        angles = torch.arange(self.modes) * (2 * math.pi / self.modes)
        return self.radius * torch.stack([angles.cos(), angles.sin()], dim=1)

    @property
    def variance(self) -> float:
        """Of each coordinate."""
        return self.radius**2 / 2 + self.deviation**2

    def samples(self, modes: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
        """Points `(B, 2)` of the given modes."""
        return self.centres[modes] + self.deviation * normal

    def log_density(self, points: torch.Tensor) -> torch.Tensor:
        """Of points `(B, 2)`."""
        squares = (points[:, None] - self.centres).square().sum(dim=2) / self.deviation**2
        of_one = math.log(2 * math.pi * self.deviation**2)
        return torch.logsumexp(-squares / 2, dim=1) - of_one - math.log(self.modes)

    def shares(self, points: torch.Tensor) -> torch.Tensor:
        """The part of the points within three deviations of each centre, times the modes.

        `[modes]`; 0.99 where a mode has just its share.
        """
        distances = torch.cdist(points, self.centres)
        nearest = distances.argmin(dim=1)
        near = nearest[distances.min(dim=1).values < 3 * self.deviation]
        return torch.bincount(near, minlength=self.modes) * (self.modes / len(points))


def mmd(found: torch.Tensor, wanted: torch.Tensor, widths: tuple[float, ...]) -> float:
    """Maximum mean discrepancy of two sets of points, with the mean of Gaussian kernels.

    The square root of the unbiased estimate of its square ("A Kernel Two-Sample Test", 2012), which
    is 0 on average for two sets of one distribution; 0 where the estimate is below.
    """
    squares = [torch.cdist(*pair).square() for pair in _pairs(found, wanted)]
    total = 0.0
    for width in widths:
        same, other, across = (torch.exp(-each / (2 * width**2)) for each in squares)
        total += _off_diagonal(same) + _off_diagonal(other) - 2 * float(across.mean())
    return math.sqrt(max(0.0, total / len(widths)))


def _pairs(a: torch.Tensor, b: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(a, a), (b, b), (a, b)]


def _off_diagonal(kernel: torch.Tensor) -> float:
    count = len(kernel)
    return float((kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1)))
