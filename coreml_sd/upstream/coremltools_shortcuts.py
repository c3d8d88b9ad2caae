"""Keep coremltools from work whose result nobody reads, while a program is made."""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
from collections.abc import Iterator
from typing import Any

from coreml_sd.processes.memory import collect_garbage, give_back, leave_garbage
from coreml_sd.upstream import table
from coreml_sd.upstream.hidden_imports import only_converts

_alone = threading.RLock()


@contextlib.contextmanager
def lean_conversion() -> Iterator[None]:
    """Programs are not made texts for debug lines that are off, nor checked between passes, nor do
    ops hand on notes of where they came from; what a type is called is looked up once; the mark
    that keeps passes from folding compressed constants is not propagated, because none exists
    before the file is written; and the garbage collector does not walk some million live objects
    again and again. In a process that does nothing else, what is dead afterwards stays until
    `collect_garbage` is called.

    What is changed belongs to the whole process, so that one thread at a time is inside.
    """
    from coremltools.converters.mil.mil import Block
    from coremltools.converters.mil.mil.types import type_mapping

    names = functools.cache(type_mapping.get_type_info)
    with (
        _alone,
        _nothing_between_passes(),
        table.FOLDING_MARKS.replaced(Block, "_propagate_nonreplaceable_vars", _leave),
        table.TYPE_NAMES.replaced(type_mapping, "get_type_info", names),
        _without_collector(),
    ):
        yield


@contextlib.contextmanager
def _nothing_between_passes() -> Iterator[None]:
    from coremltools.converters.mil.mil import Block, Function, Program

    with (
        table.BETWEEN_PASSES.replaced(Block, "__str__", _short),
        table.BETWEEN_PASSES.replaced(Function, "__str__", _short),
        table.BETWEEN_PASSES.replaced(Function, "to_str", _short),
        table.BETWEEN_PASSES.replaced(Block, "_copy_scope_info", staticmethod(_leave)),
        table.BETWEEN_PASSES.replaced(Program, "_add_essential_scope_source", _leave),
        table.BETWEEN_PASSES.replaced(Program, "validate", _leave),
    ):
        yield


def _short(block: Any, *_: Any, **__: Any) -> str:
    return f"block of {len(block.operations)} ops"


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    if not table.GARBAGE.is_on:
        yield
        return
    collect_garbage()
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if only_converts():
            leave_garbage()
        if collecting:
            gc.enable()
        if not only_converts():
            gc.collect()
            give_back()


def _leave(*_: Any, **__: Any) -> None:
    """In the place of work that nobody needs."""
