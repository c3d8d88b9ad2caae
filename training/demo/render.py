"""Pictures of the subjects: font glyphs, scaled to the model's size, on plain backgrounds."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from coreml_sd.files.cache_folder import cache_folder

from .subjects import BACKGROUNDS, Subject

FONT_FILE = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
REMEDY = "run scripts/emoji_font, or install the package fonts-noto-color-emoji"
STRIKE_SIZE = 109  # the only bitmap size in the font, in pixels per em
GLYPH_BOX = 128  # pixels; every glyph's ink lies inside this square at that size
MARGIN = 2  # pixels left free on each side of the picture


def font_file() -> Path:
    """The system's font, or what `scripts/emoji_font` unpacked.

    Raises:
        FileNotFoundError: neither is there.
    """
    for path in (FONT_FILE, cache_folder("emoji-font") / FONT_FILE.relative_to("/")):
        if path.exists():
            return path
    raise FileNotFoundError(f"{FONT_FILE} is missing: {REMEDY}")


def has_font() -> bool:
    """Whether glyphs can be rendered here."""
    try:
        font_file()
    except FileNotFoundError:
        return False
    return True


def draw_glyph(font: ImageFont.FreeTypeFont, text: str) -> Image.Image:
    """Draw one glyph with its colours on a transparent `GLYPH_BOX` square (RGBA)."""
    canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((12, 16), text, font=font, embedded_color=True)
    return canvas.crop((16, 16, 16 + GLYPH_BOX, 16 + GLYPH_BOX))


def shrink(glyph: Image.Image, size: int) -> NDArray[np.float32]:
    """Scale a glyph down to a `[size, size, 4]` picture: premultiplied RGB and alpha, 0 to 1.

    Colours are multiplied by alpha before the filter, so that the invisible colour of transparent
    pixels does not bleed into the edges.
    """
    rgba = np.asarray(glyph, dtype=np.float32) / 255
    rgba[..., :3] *= rgba[..., 3:]
    inner = size - 2 * MARGIN
    planes = [
        np.asarray(Image.fromarray(plane).resize((inner, inner), Image.Resampling.LANCZOS))
        for plane in np.moveaxis(rgba, -1, 0)
    ]
    picture = np.zeros((size, size, 4), dtype=np.float32)
    picture[MARGIN:-MARGIN, MARGIN:-MARGIN] = np.clip(np.stack(planes, axis=-1), 0, 1)
    return picture


def render_glyphs(subjects: list[Subject], size: int = 64) -> NDArray[np.float32]:
    """Render every subject: `[subjects, size, size, 4]`, premultiplied RGB and alpha, 0 to 1."""
    font = ImageFont.truetype(str(font_file()), STRIKE_SIZE)
    return np.stack([shrink(draw_glyph(font, subject.text), size) for subject in subjects])


def composite(
    glyphs: NDArray[np.float32], colours: NDArray[np.float32] | tuple[int, ...]
) -> NDArray[np.uint8]:
    """Lay glyphs `[n, h, w, 4]` over colours `[3]` or `[n, 3]` (0 to 255): `[n, h, w, 3]` uint8."""
    colour = np.broadcast_to(np.asarray(colours, dtype=np.float32), (len(glyphs), 3))
    rgb, alpha = glyphs[..., :3], glyphs[..., 3:]
    pictures = rgb * 255 + (1 - alpha) * colour[:, None, None, :]
    return np.clip(np.rint(pictures), 0, 255).astype(np.uint8)


def render_all(glyphs: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Every subject on every background: `[subjects, backgrounds, h, w, 3]` uint8."""
    return np.stack([composite(glyphs, colour) for colour in BACKGROUNDS.values()], axis=1)


def closest_pairs(glyphs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance of each glyph to its nearest other glyph: RMS of RGB (0 to 1) on mid grey.

    Used to keep look-alikes out of the subject list.
    """
    flat = composite(glyphs, (128, 128, 128)).reshape(len(glyphs), -1).astype(np.float32) / 255
    squares = (flat**2).mean(axis=1)
    cross = flat @ flat.T / flat.shape[1]
    distance = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * cross, 0))
    np.fill_diagonal(distance, np.inf)
    nearest: NDArray[np.float32] = distance.min(axis=1).astype(np.float32)
    return nearest
