"""Paths that a file from elsewhere names: they stay inside the folder that the file belongs to."""

from __future__ import annotations

from pathlib import Path

from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS

_UNSAFE = ("", ".", "..")


def stays_inside(relative: str) -> bool:
    """Whether a name leads to something inside its folder, before links are followed."""
    parts = relative.split("/")
    deep = len(parts) > LIMITS.nesting
    return not deep and not {*_UNSAFE} & {*parts} and not any(m in relative for m in "\\:\0")


def file_inside(folder: Path, relative: str) -> Path:
    """Where a name from a file lies in `folder`; whether something is there is not asked.

    Parts are divided by `/` on every system.

    Raises:
        UserError: the name is absolute, goes up, has an empty part, a backslash, a colon or a null
            character, or a link on the way leads out of the folder.
    """
    if not stays_inside(relative):
        raise UserError(f"{folder}: names {relative[:200]!r}, which is not a path inside it")
    path = folder.joinpath(*relative.split("/"))
    try:
        leads_out = not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a ring of links
        raise UserError(f"{folder}: names {relative[:200]!r} ({error})") from None
    if leads_out:
        raise UserError(f"{path}: a link that leads out of {folder}; put the file itself there")
    return path
