"""Loops that numpy cannot express, compiled to machine code and free of the interpreter lock.

Compiled code does not look at bounds: an index outside an array reads or ends whatever lies there.
So every loop that Python calls is entered by `compiled_within`, which checks first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from coreml_sd.compress.supported import PALETTE_BITS

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile with numba, cached on disk; calls run in parallel on Python threads (nogil).

    For what compiled code alone calls. A division by zero gives what numpy gives: looking for it
    would keep small functions from being built into those that call them.
    """
    return cast(_Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def compiled_within(check: Callable[..., None]) -> Callable[[_Function], _Function]:
    """Compile a loop that Python calls.

    Args:
        check: takes the loop's arguments and raises ValueError for those with which it would leave
            its arrays.
    """

    def decorate(function: _Function) -> _Function:
        loop = compiled(function)

        @functools.wraps(function)
        def checked(*arguments: Any) -> Any:
            check(*arguments)
            return loop(*arguments)

        return cast(_Function, checked)

    return decorate


def require_flat(array: NDArray[Any], dtype: type[np.generic] | None, least: int) -> None:
    """Refuse what is no flat array of `least` entries.

    Raises:
        ValueError: not one axis, not of that dtype, or fewer entries than `least`.
    """
    if not isinstance(array, np.ndarray) or array.ndim != 1:
        raise ValueError(f"an array of one axis is needed, not {np.shape(array)}")
    if dtype is not None and array.dtype != dtype:
        raise ValueError(f"{array.dtype} where {np.dtype(dtype)} is needed")
    if array.size < least:
        raise ValueError(f"{array.size} entries where {least} are needed")


def require_width(bits: int) -> None:
    """Refuse a width of indices that does not exist.

    Raises:
        ValueError: indices have no such width.
    """
    if bits not in PALETTE_BITS:
        raise ValueError(f"indices of {bits} bits; there are {', '.join(map(str, PALETTE_BITS))}")
