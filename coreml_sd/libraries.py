"""Quieten the libraries' known harmless noise; everything else they say is passed on."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

# What coremltools 9 says on any machine without Core ML, or with a newer torch than it was built
# beside. The tested versions are our own window (`coreml-sd doctor`).
_COREMLTOOLS_NOISE = (
    "Failed to load _ML",
    "has not been tested with coremltools",
    "scikit-learn version",
    "Fail to import BlobReader",
    "Fail to import BlobWriter",
    "Unable to import",
    "Tuple detected at graph output",
    "Saving value type of int64 into a builtin type of int32",
)
_TRANSFORMERS_NOISE = ("requires torchvision (not installed)",)


class _DropKnown(logging.Filter):
    def __init__(self, known: tuple[str, ...]) -> None:
        super().__init__()
        self.known = known

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(text in message for text in self.known)


def quieten() -> None:
    """Install the filters; call before the heavy libraries are first imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in ("coremltools", "coremltools.converters", "coremltools.models"):
        _filter(name, _COREMLTOOLS_NOISE)
    for name in (
        "transformers.utils.import_utils",
        "transformers.models.auto.image_processing_auto",
        "transformers",
        "diffusers",
    ):
        _filter(name, _TRANSFORMERS_NOISE)
    warnings.filterwarnings("ignore", message=".*overflow encountered in cast.*")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="coremltools.*")


@contextlib.contextmanager
def quiet_conversion() -> Iterator[None]:
    """Switch off coremltools' own progress bars while ours are shown."""
    import tqdm

    original = tqdm.tqdm.__init__

    def silent(self: object, *args: object, **kwargs: object) -> None:
        kwargs["disable"] = True
        original(self, *args, **kwargs)

    tqdm.tqdm.__init__ = silent
    try:
        yield
    finally:
        tqdm.tqdm.__init__ = original


def _filter(name: str, known: tuple[str, ...]) -> None:
    logger = logging.getLogger(name)
    logger.addFilter(_DropKnown(known))
    for handler in logger.handlers:
        handler.addFilter(_DropKnown(known))
