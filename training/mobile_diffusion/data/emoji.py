"""The emoji set: 256 subjects on eight backgrounds, with the captions of the model `demo`."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from training.demo import captions, render, subjects


class EmojiSet:
    """Picture `8 * subject + background`; a caption may leave the background open."""

    def __init__(self, size: int) -> None:
        listed = subjects.load_subjects()
        self.subjects = [subject.name for subject in listed]
        self.backgrounds = list(subjects.BACKGROUNDS)
        self._colours = np.array(list(subjects.BACKGROUNDS.values()), np.float32)
        self._glyphs = render.render_glyphs(listed, size)

    def __len__(self) -> int:
        return len(self.subjects) * len(self.backgrounds)

    def pictures(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        subject, background = np.divmod(numbers, len(self.backgrounds))
        return render.composite(self._glyphs[subject], self._colours[background])

    def caption(self, number: int, generator: random.Random) -> str:
        subject, background = divmod(number, len(self.backgrounds))
        return captions.draw_caption(
            self.subjects[subject], self.backgrounds[background], generator
        )

    def captions(self) -> list[str]:
        return captions.all_captions(self.subjects, self.backgrounds)
