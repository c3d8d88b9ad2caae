"""Pictures in a folder, with captions in the `metadata.jsonl` of Hugging Face's image folders."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from training.mobile_diffusion.data.read_picture import read_picture

METADATA = "metadata.jsonl"
_CAPTION_KEYS = ("text", "caption")


class FolderSet:
    """One picture a line of `metadata.jsonl`: `{"file_name": "a.png", "text": "a caption"}`.

    Raises:
        UserError: no such file.
        UserError: a line without a picture or a caption, or no line at all; it names the line.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        listing = path / METADATA
        if not listing.is_file():
            raise UserError(
                f'{listing} is missing: write one line {{"file_name": ..., "text": ...}} a picture'
            )
        lines = listing.read_text("utf-8").splitlines()
        self._entries = [
            _entry(line, f"{listing}, line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
        if not self._entries:
            raise UserError(f"{listing} names no picture")

    def __len__(self) -> int:
        return len(self._entries)

    def pictures(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        paths = [self._path / self._entries[number][0] for number in numbers]
        return np.stack([read_picture(path, self._size, str(path)) for path in paths])

    def caption(self, number: int, generator: random.Random) -> str:
        return self._entries[number][1]

    def captions(self) -> list[str]:
        return [caption for _, caption in self._entries]


def _entry(line: str, where: str) -> tuple[str, str]:
    """File name and caption of a line."""
    try:
        told = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})") from None
    if not isinstance(told, dict) or not isinstance(told.get("file_name"), str):
        raise UserError(f"{where}: no file_name")
    caption = next((told[key] for key in _CAPTION_KEYS if isinstance(told.get(key), str)), None)
    if caption is None:
        raise UserError(f"{where}: no text")
    return told["file_name"], caption
