"""Write a picture as PNG with how it was made in its metadata."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coreml_sd import __version__
from coreml_sd.bundle import Bundle
from coreml_sd.errors import UserError
from coreml_sd.generation.generate import GenerationRequest


def png_metadata(bundle: Bundle, request: GenerationRequest, runtime: str) -> dict[str, str]:
    """Everything needed to make the same picture again."""
    entries = {key: str(value) for key, value in dataclasses.asdict(request).items()}
    return entries | {
        "model": str(bundle.manifest["model"]["name"]),
        "config": str(bundle.manifest["model"]["config_digest"]),
        "runtime": runtime,
        "software": f"coreml-sd {__version__}",
    }


def png_bytes(pixels: NDArray[np.uint8], metadata: dict[str, str] | None = None) -> bytes:
    """`pixels` `(H, W, 3)` as a PNG file."""
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for key, value in (metadata or {}).items():
        info.add_itxt(key, value)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def write_png(path: Path, pixels: NDArray[np.uint8], metadata: dict[str, str]) -> None:
    """Write a PNG; a reader never sees a part of it.

    Raises:
        UserError: the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(png_bytes(pixels, metadata))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another -o"
        ) from None
