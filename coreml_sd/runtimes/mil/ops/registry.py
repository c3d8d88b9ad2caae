"""The table of ops: name -> function, which parameters are static, whether it only moves data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Any]


@dataclass(frozen=True)
class Op:
    """One op kind.

    `static` parameters arrive as Python values (int, float, bool, str, or a tuple of ints), all
    others as tensors: floats in fp32 whatever their declared width, integers in int32. An op that
    only moves data (`moves`) cannot leave fp16, so its result is not rounded again.
    """

    name: str
    function: Function
    static: frozenset[str]
    moves: bool


OPS: dict[str, Op] = {}


def op(*names: str, static: tuple[str, ...] = (), moves: bool = False) -> Callable[..., Function]:
    """Register a function under its MIL names."""

    def register(function: Function) -> Function:
        for name in names:
            OPS[name] = Op(name, function, frozenset(static), moves)
        return function

    return register
