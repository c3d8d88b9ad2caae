"""`COREML_SD_PLAIN`: convert without the shortcuts that other libraries are given."""

from __future__ import annotations

import os
from collections.abc import Collection

from coreml_sd.errors import UserError

VARIABLE = "COREML_SD_PLAIN"
_NONE, _ALL = ("", "0"), "1"


def is_plain(name: str) -> bool:
    """Whether the environment switches the shortcut of this name off: `1` means all of them, names
    with commas between mean these."""
    value = os.environ.get(VARIABLE, "")
    return value == _ALL or name in _names(value)


def check_plain(known: Collection[str]) -> None:
    """Refuse a name that no shortcut has.

    Raises:
        UserError: names it.
    """
    unknown = sorted(_names(os.environ.get(VARIABLE, "")) - set(known))
    if unknown:
        raise UserError(
            f"{VARIABLE}: no shortcut is called {unknown[0]!r}; give 1 for all, or names of "
            f"{', '.join(sorted(known))}"
        )


def _names(value: str) -> set[str]:
    return set() if value in (*_NONE, _ALL) else {name.strip() for name in value.split(",")}
