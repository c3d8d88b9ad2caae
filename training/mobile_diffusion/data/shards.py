"""Tar files as webdataset writes them: `000.jpg` beside `000.txt`, in any number of shards.

They are read at the places that an index gives, made once at the start: a step can then ask for
any sample, which makes runs resumable and shuffled without a buffer.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coreml_sd.errors import UserError
from training.mobile_diffusion.data.read_picture import read_picture

_PICTURES = ("jpg", "jpeg", "png", "webp")
_TEXTS = ("txt", "json")


@dataclass(frozen=True)
class _Part:
    """Where a file lies in a shard."""

    shard: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


class ShardSet:
    """All samples of the `*.tar` in a folder that have a picture and a caption.

    Captions are `KEY.txt`, or the "caption" or "text" of `KEY.json`.

    Raises:
        UserError: no shards there.
        UserError: a shard that is not a tar file, or none with a sample.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._size = size
        shards = sorted(path.glob("*.tar"))
        if not shards:
            raise UserError(f"{path}: no .tar files")
        self._samples = [sample for shard in shards for sample in _samples(shard)]
        if not self._samples:
            raise UserError(f"{path}: no picture with a caption beside it in {len(shards)} shards")

    def __len__(self) -> int:
        return len(self._samples)

    def pictures(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        parts = [self._samples[number][0] for number in numbers]
        return np.stack(
            [
                read_picture(io.BytesIO(part.read()), self._size, f"{part.shard}: {part.name}")
                for part in parts
            ]
        )

    def caption(self, number: int, generator: random.Random) -> str:
        return _caption(self._samples[number][1])

    def captions(self) -> list[str]:
        return [_caption(text) for _, text in self._samples]


def _samples(shard: Path) -> list[tuple[_Part, _Part]]:
    """Picture and caption of each sample."""
    pictures: dict[str, _Part] = {}
    texts: dict[str, _Part] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                key, _, ending = member.name.rpartition("/")[2].partition(".")
                folder = member.name.rpartition("/")[0]
                part = _Part(shard, member.name, member.offset_data, member.size)
                if member.isfile() and ending.lower() in _PICTURES:
                    pictures[f"{folder}/{key}"] = part
                elif member.isfile() and ending.lower() in _TEXTS:
                    texts.setdefault(f"{folder}/{key}", part)
    except tarfile.TarError as error:
        raise UserError(f"{shard}: not a tar file that can be read ({error})") from None
    return [(picture, texts[key]) for key, picture in pictures.items() if key in texts]


def _caption(part: _Part) -> str:
    text = part.read().decode("utf-8")
    if not part.name.lower().endswith(".json"):
        return text.strip()
    told = json.loads(text)
    for key in ("caption", "text"):
        if isinstance(told, dict) and isinstance(told.get(key), str):
            return str(told[key])
    raise UserError(f"{part.shard}: {part.name}: no caption")
