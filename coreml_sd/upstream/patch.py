"""One change to other libraries, and the means to make it for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from coreml_sd.upstream.plain import is_plain

Kind = Literal["shortcut", "fault", "hook", "noise"]
_ABSENT = object()


@dataclass(frozen=True)
class Patch:
    """What of other libraries is replaced or hidden, and why.

    Attributes:
        name: what `COREML_SD_PLAIN` calls it.
        kind: `shortcut` saves time or memory and can be switched off; `fault` works around a fault
            of the library; `hook` does what the library offers no other way for; `noise` quietens.
        attributes: each as `module:name.in.it`, a hidden module as `module:`; in angle brackets
            what differs from case to case.
        why: one or two sentences.
        versions: of the library; those that it was tried with, or those that have the fault.
        gain: measured, for a shortcut.
        test: what fails when it is wrong or, for a fault, when it can go.
    """

    name: str
    kind: Kind
    attributes: tuple[str, ...]
    why: str
    versions: str
    test: str
    gain: str = ""

    @property
    def is_on(self) -> bool:
        """Whether it is made: all but the shortcuts that the environment switches off."""
        return self.kind != "shortcut" or not is_plain(self.name)

    @contextlib.contextmanager
    def replaced(self, owner: Any, name: str, value: Any) -> Iterator[None]:
        """While open, attribute `name` of a module, class or object is `value`; does nothing where
        the patch is off."""
        if not self.is_on:
            yield
            return
        before = vars(owner).get(name, _ABSENT)  # as it is stored: a static method stays one
        setattr(owner, name, value)
        try:
            yield
        finally:
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
