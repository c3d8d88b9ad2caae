"""Loops that numpy cannot express, compiled to machine code and free of the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile with numba, cached on disk; calls run in parallel on Python threads (nogil).

    A division by zero gives what numpy gives: looking for it would keep small functions from being
    built into those that call them.
    """
    return cast(_Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
