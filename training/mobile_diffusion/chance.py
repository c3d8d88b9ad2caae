"""What a step draws at random: made for the whole batch, of which each process takes its share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Share:
    """Which rows of a batch a process takes: `index` of `count` processes."""

    index: int = 0
    count: int = 1

    def rows(self, batch: int) -> slice:
        """Raises ValueError where a batch cannot be shared equally."""
        if batch % self.count:
            raise ValueError(f"a batch of {batch} cannot be shared by {self.count} processes")
        size = batch // self.count
        return slice(self.index * size, (self.index + 1) * size)


class Chance:
    """The random numbers of one turn of one step; the same in every run with the seed.

    They depend on seed, step and turn alone, so that a resumed run, or one with more processes,
    draws the same.
    """

    def __init__(
        self,
        seed: int,
        step: int,
        turn: int,
        batch: int,
        *,
        share: Share | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.batch, self._device = batch, device
        self._share = share or Share()
        self._rows = self._share.rows(batch)
        sequence = np.random.SeedSequence((seed, step, turn))
        self.numbers = np.random.default_rng(sequence)
        state = int(sequence.generate_state(1, np.uint64)[0])
        self._generator = torch.Generator().manual_seed(state >> 1)

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal numbers, `(share of the batch, *shape)`."""
        return self._own(torch.randn((self.batch, *shape), generator=self._generator))

    def uniform(self, *shape: int) -> torch.Tensor:
        """Numbers from 0 to 1, `(share of the batch, *shape)`."""
        return self._own(torch.rand((self.batch, *shape), generator=self._generator))

    def integers(self, low: int, high: int) -> torch.Tensor:
        """Whole numbers from `low` to `high` - 1, one a row."""
        drawn = torch.randint(low, high, (self.batch,), generator=self._generator)
        return self._own(drawn)

    def chosen(self, count: int) -> NDArray[np.int64]:
        """Numbers of samples from 0 to `count` - 1, one a row."""
        return self.numbers.integers(0, count, self.batch)[self._rows]

    def seeds(self) -> NDArray[np.int64]:
        """A seed for what each row draws by itself."""
        return self.numbers.integers(0, 1 << 62, self.batch)[self._rows]

    def _own(self, drawn: torch.Tensor) -> torch.Tensor:
        return drawn[self._rows].to(self._device)
