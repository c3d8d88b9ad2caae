"""Keep coremltools from work whose result nobody reads, while a program is made."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator
from typing import Any

from coreml_sd.memory.freed import give_back

_alone = threading.RLock()


@contextlib.contextmanager
def lean_conversion() -> Iterator[None]:
    """Programs are not formatted for debug lines that are off; the mark that keeps passes from
    folding compressed constants is not propagated, because none exists before the file is written;
    and the garbage collector does not walk some million live objects again and again.

    What is changed belongs to the whole process, so that one thread at a time is inside.
    """
    from coremltools.converters.mil.mil import Block

    changes: dict[str, Any] = {
        "__str__": lambda block: f"block of {len(block.operations)} ops",
        "_propagate_nonreplaceable_vars": lambda block: None,
    }
    with _alone:
        originals = {name: getattr(Block, name) for name in changes}
        collecting = gc.isenabled()
        gc.disable()
        try:
            for name, change in changes.items():
                setattr(Block, name, change)
            yield
        finally:
            for name, original in originals.items():
                setattr(Block, name, original)
            if collecting:
                gc.enable()
            gc.collect()
            give_back()
