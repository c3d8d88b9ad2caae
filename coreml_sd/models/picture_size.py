"""The size of pictures, as people write it."""

from __future__ import annotations

import re

from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS


def parse_size(text: str) -> tuple[int, int]:
    """`HEIGHTxWIDTH` (or one number for a square) in pixels.

    Raises:
        UserError: the text is not a size.
    """
    parts = text.lower().split("x")
    if len(parts) in (1, 2) and all(1 <= whole_number(part) <= LIMITS.pixels for part in parts):
        return int(parts[0]), int(parts[-1])
    raise UserError(
        f"size {text[:40]!r}: write HEIGHTxWIDTH in pixels, for example 512x512, up to "
        f"{LIMITS.pixels} each"
    )


def whole_number(text: str) -> int:
    """A whole number in plain digits; 0 where it is none or has more digits than any knob."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
