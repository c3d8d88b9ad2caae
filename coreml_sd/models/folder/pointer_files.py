"""Files of a model that hold a pointer instead of their content."""

from __future__ import annotations

from pathlib import Path

from coreml_sd.errors import UserError
from coreml_sd.files.foreign import open_regular

_LFS = b"version https://git-lfs.github.com/spec/"


def require_content(file: Path) -> None:
    """Refuse a git-lfs pointer, which a clone without git-lfs leaves in place of a large file.

    Raises:
        UserError: it is one, or no regular file. OSError: it cannot be read.
    """
    with open_regular(file) as stream:
        if stream.read(len(_LFS)) == _LFS:
            raise UserError(
                f"{file}: is a git-lfs pointer, not the file itself: run `git lfs pull` in the "
                "model's folder"
            )
