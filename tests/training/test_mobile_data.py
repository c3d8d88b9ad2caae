"""Pictures and captions for MobileDiffusion's training: each kind of set, and what is refused."""

import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coreml_sd.errors import UserError
from training.demo import render
from training.mobile_diffusion.config import DataConfig
from training.mobile_diffusion.data.find_set import picture_set
from training.mobile_diffusion.data.picture_set import PictureSet, to_pictures, to_tensor

COLOURS = {"a red square": (250, 0, 0), "a blue square": (0, 0, 250)}
EITHER = random.Random(0)


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (24, 16)) -> Image.Image:
    return Image.new("RGB", size, colour)


def write_folder(path: Path) -> Path:
    path.mkdir()
    lines = []
    for number, (caption, colour) in enumerate(COLOURS.items()):
        picture(colour).save(path / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": caption}))
    (path / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return path


def write_shard(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    picture(colour).save(file, "PNG")
    return file.getvalue()


def write_shards(path: Path) -> Path:
    path.mkdir()
    (red, blue) = COLOURS
    write_shard(
        path / "0.tar",
        {"a.png": png(COLOURS[red]), "a.txt": red.encode(), "lonely.png": png((0, 0, 0))},
    )
    told = json.dumps({"caption": blue}).encode()
    write_shard(path / "1.tar", {"x/b.png": png(COLOURS[blue]), "x/b.json": told})
    return path


def require_squares(found: PictureSet) -> None:
    assert len(found) == 2 and found.captions() == list(COLOURS)
    pictures = found.pictures(np.array([1, 0]))
    assert pictures.shape == (2, 8, 8, 3) and pictures.dtype == np.uint8
    for number, made in zip((1, 0), pictures, strict=True):
        assert (made == COLOURS[found.caption(number, EITHER)]).all()


def test_a_folder_of_pictures_with_captions(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "set")
    require_squares(picture_set(DataConfig(kind="folder", path=str(path), size=8)))


def test_shards_in_any_number(tmp_path: Path) -> None:
    path = write_shards(tmp_path / "set")
    require_squares(picture_set(DataConfig(kind="shards", path=str(path), size=8)))


@pytest.mark.skipif(not render.has_font(), reason=render.REMEDY)
def test_an_emoji_is_drawn_on_the_background_of_its_caption() -> None:
    found = picture_set(DataConfig(size=32))
    assert len(found) == 256 * 8
    for number in (0, 7, 2047):
        (drawn,) = found.pictures(np.array([number]))
        name = list(render.BACKGROUNDS)[number % 8]
        assert tuple(drawn[0, 0]) == render.BACKGROUNDS[name]
        captions = {found.caption(number, EITHER) for _ in range(40)}
        assert any(name in caption for caption in captions)
        assert any(name not in caption for caption in captions)


def test_pixels_survive_the_way_to_the_network_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    tensor = to_tensor(pixels)
    assert tensor.min() == -1 and tensor.max() == 1
    assert np.array_equal(to_pictures(tensor), pixels)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1: not JSON"),
        ('{"text": "a"}', "line 1: no file_name"),
        ('{"file_name": "a.png"}', "line 1: no text"),
        ("", "names no picture"),
    ],
)
def test_a_listing_that_cannot_be_used_is_named(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=told):
        picture_set(DataConfig(kind="folder", path=str(tmp_path), size=8))


def test_what_is_not_there_or_no_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metadata\.jsonl is missing: write one line"):
        picture_set(DataConfig(kind="folder", path=str(tmp_path), size=8))
    with pytest.raises(UserError, match=r"no \.tar files"):
        picture_set(DataConfig(kind="shards", path=str(tmp_path), size=8))
    with pytest.raises(UserError, match=r"data\.path is not given"):
        picture_set(DataConfig(kind="shards", size=8))
    (tmp_path / "0.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(UserError, match=r"0\.tar: not a tar file"):
        picture_set(DataConfig(kind="shards", path=str(tmp_path), size=8))
    write_shard(tmp_path / "0.tar", {"a.png": b"no picture", "a.txt": b"a"})
    shards = picture_set(DataConfig(kind="shards", path=str(tmp_path), size=8))
    with pytest.raises(UserError, match=r"a\.png: not a picture"):
        shards.pictures(np.array([0]))
