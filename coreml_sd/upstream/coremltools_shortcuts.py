"""Keep coremltools from work whose result nobody reads, while a program is made."""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
from collections.abc import Iterator
from typing import Any

from coreml_sd.processes.memory import collect_garbage, leave_garbage
from coreml_sd.upstream import table
from coreml_sd.upstream.hidden_imports import only_converts
from coreml_sd.upstream.patch import Patch

_alone = threading.RLock()


@contextlib.contextmanager
def lean_conversion() -> Iterator[None]:
    """Programs are not formatted for debug lines that are off, nor checked by coremltools (the
    finished one is, by `coreml_sd.targets.coreml.passes.check_program`); what a type is called is
    looked up once; ops do not hand on notes of where they came from, which no file holds; the mark
    that keeps passes from folding compressed constants is not propagated, because none exists
    before the file is written; and the garbage collector does not walk some million live objects
    again and again. In a process that does nothing else, what is dead afterwards stays until
    `collect_garbage` is called.

    What is changed belongs to the whole process, so that one thread at a time is inside.
    """
    with _alone, contextlib.ExitStack() as stack:
        for patch, owner, name, change in _changes():
            stack.enter_context(patch.replaced(owner, name, change))
        stack.enter_context(_without_collector())
        yield


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
        leave_garbage()
        if collecting:
            gc.enable()
        if not only_converts():
            collect_garbage()


def _changes() -> list[tuple[Patch, Any, str, Any]]:
    from coremltools.converters.mil.mil import Block, Function, Program
    from coremltools.converters.mil.mil.types import type_mapping

    def short(block: Any, *args: Any, **kwargs: Any) -> str:
        return f"block of {len(block.operations)} ops"

    names = functools.cache(type_mapping.get_type_info)
    return [
        (table.BLOCK_TEXT, Block, "__str__", short),
        (table.BLOCK_TEXT, Function, "__str__", short),
        (table.BLOCK_TEXT, Function, "to_str", short),
        (table.FOLDING_MARKS, Block, "_propagate_nonreplaceable_vars", lambda block: None),
        (table.SCOPES, Block, "_copy_scope_info", staticmethod(lambda src, dst: None)),
        (table.SCOPES, Program, "_add_essential_scope_source", lambda program, sources: None),
        (table.VALIDATION, Program, "validate", lambda program, check_essential_scope=False: None),
        (table.TYPE_NAMES, type_mapping, "get_type_info", names),
    ]
