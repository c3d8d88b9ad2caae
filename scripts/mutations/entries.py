"""The list of mutations, read from the TOML files beside this one."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LISTS = Path(__file__).parent


@dataclass(frozen=True)
class Mutation:
    """One changed line and the tests that must fail for it.

    Attributes:
        file: path in the repository.
        find: text that the file holds exactly once. `replace`: what stands there instead.
        killers: pytest's ids.
        converts: the fault is in what converts, so the killers make their own bundles; else they
            take those that intact code converted.
    """

    room: str
    name: str
    file: str
    find: str
    replace: str
    killers: tuple[str, ...]
    converts: bool = False

    def fault(self, root: Path) -> str:
        """What is wrong with the entry itself; empty where nothing is."""
        path = root / self.file
        if not path.is_file():
            return f"{self.file} does not exist"
        count = path.read_text("utf-8").count(self.find)
        if count != 1:
            return f"{self.file} has its text {count} times"
        if self.find == self.replace or "\n" in self.find + self.replace:
            return "it does not change one line"
        return "" if self.killers else "it names no test"

    def applied(self, text: str) -> str:
        """The file's text with the fault in it."""
        return text.replace(self.find, self.replace)


def read_lists(folder: Path = LISTS) -> list[Mutation]:
    """Every entry of every list, rooms in the order of their names."""
    return [
        _mutation(path.stem, entry)
        for path in sorted(folder.glob("*.toml"))
        for entry in tomllib.loads(path.read_text("utf-8"))["mutation"]
    ]


def _mutation(room: str, entry: dict[str, Any]) -> Mutation:
    return Mutation(room, **{**entry, "killers": tuple(entry["killers"])})
