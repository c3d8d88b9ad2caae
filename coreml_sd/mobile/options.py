"""The choices of the mobile form; importing this module does not load torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from coreml_sd.errors import UserError

Attention = Literal["split-einsum", "split-einsum-v2", "original", "sdpa"]


@dataclass(frozen=True)
class MobileOptions:
    """What may differ between two mobile forms of one network.

    `attention` names the arithmetic of every attention. `query_chunk` is the longest piece of the
    query axis in tokens, used by split-einsum-v2 only.

    Raises:
        UserError: an unknown attention, or a query chunk below one.
    """

    attention: Attention = "split-einsum"
    query_chunk: int = 512

    def __post_init__(self) -> None:
        if self.attention not in get_args(Attention):
            known = ", ".join(get_args(Attention))
            raise UserError(f"unknown attention {self.attention!r}: choose one of {known}")
        if self.query_chunk < 1:
            raise UserError(f"query chunk {self.query_chunk} is too small: use 1 or more tokens")
