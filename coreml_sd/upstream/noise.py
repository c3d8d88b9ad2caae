"""Quieten the libraries' known harmless noise; everything else they say is passed on."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Literal

from coreml_sd.upstream import table

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
# torchao comes with litert-torch; nothing here loads its checkpoints.
_TORCHAO_NOISE = ("Unable to import `torchao`", "Calling register_constant() on Enum subclasses")

# Two threads that redirect at once would put back each other's files.
_redirected = threading.RLock()


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
    for name in ("diffusers.quantizers.torchao.torchao_quantizer", "torch.utils._pytree"):
        _filter(name, _TORCHAO_NOISE)
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

    with table.PROGRESS_BARS.replaced(tqdm.tqdm, "__init__", silent):
        yield


@contextlib.contextmanager
def quiet_native(*streams: Literal[1, 2]) -> Iterator[Callable[[], str]]:
    """Keep what native libraries write to the standard streams out of the terminal.

    It holds for the whole process: what other threads write there meanwhile goes the same way.

    Args:
        streams: 1 for stdout, 2 for stderr; both without.

    Yields a function that gives what was written so far, for an error message.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with _redirected, tempfile.TemporaryFile() as log:
        kept = {number: os.dup(number) for number in streams or (1, 2)}
        for number in kept:
            os.dup2(log.fileno(), number)

        def written() -> str:
            log.seek(0)
            return log.read().decode(errors="replace")

        try:
            yield written
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            if os.name == "posix":
                ctypes.CDLL(None).fflush(None)  # C's own, which would come out at the end
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)


def _filter(name: str, known: tuple[str, ...]) -> None:
    logger = logging.getLogger(name)
    logger.addFilter(_DropKnown(known))
    for handler in logger.handlers:
        handler.addFilter(_DropKnown(known))
