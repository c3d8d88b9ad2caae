"""A picture file at the size of the training."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from coreml_sd.errors import UserError


def read_picture(file: Path | BinaryIO, size: int, name: str) -> NDArray[np.uint8]:
    """`[size, size, 3]`: turned as its camera says, cut to the middle square, scaled.

    Raises:
        UserError: not a picture; it gives `name`.
    """
    try:
        with Image.open(file) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{name}: not a picture that can be read ({error})") from None
    fitted = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(fitted, dtype=np.uint8)
