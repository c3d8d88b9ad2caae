"""Whether pictures are samples and not averages: one clear background each, and sharp edges."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.demo import subjects
from training.demo.score import BORDER, Pictures

NEAR = 48.0  # distance in RGB, 0 to 255; half of that of the two nearest backgrounds is 43
CLEAR = 0.9  # the part of the border that must be near to one background
HIGH = 1 / 8  # cycles per pixel


@dataclass(frozen=True)
class Backgrounds:
    """Of pictures whose prompts leave the background open.

    Attributes:
        clear: the part of the pictures with one clear background.
        shares: of each background among those, times their number; 1 is its own share.
        clearness: of each picture, the part of its border that is near to one background.
    """

    clear: float
    shares: dict[str, float]
    clearness: NDArray[np.float64]

    @property
    def are_samples(self) -> bool:
        """At least 95 % are clear, and each background has between half and twice its share."""
        return self.clear >= 0.95 and all(0.5 <= share <= 2 for share in self.shares.values())


def backgrounds(pictures: Pictures) -> Backgrounds:
    """Look at the borders of pictures `[n, h, w, 3]`, which the glyphs leave free."""
    colours = np.array(list(subjects.BACKGROUNDS.values()), np.float32)
    border = np.ones(pictures.shape[1:3], dtype=bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    pixels = pictures[:, border].astype(np.float32)
    distances = np.linalg.norm(pixels[:, :, None] - colours, axis=3)
    near = (distances < NEAR) & (distances == distances.min(axis=2, keepdims=True))
    parts = near.mean(axis=1)
    found = [int(part.argmax()) for part in parts if part.max() >= CLEAR]
    counts = Counter(found)
    scale = len(colours) / max(1, len(found))
    shares = {name: counts[i] * scale for i, name in enumerate(subjects.BACKGROUNDS)}
    return Backgrounds(len(found) / len(pictures), shares, parts.max(axis=1))


def sharpness(pictures: Pictures) -> float:
    """The mean power of `[n, h, w, 3]` above `HIGH` cycles per pixel, of brightness from 0 to 1."""
    brightness = pictures.astype(np.float64).mean(axis=3) / 255
    height, width = brightness.shape[1:]
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    power = np.abs(np.fft.fft2(brightness)) ** 2 / (height * width) ** 2
    return float(power[:, np.hypot(rows, columns) > HIGH].sum(axis=1).mean())
