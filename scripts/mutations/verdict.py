"""What a run of tests says of a mutation: killed, survived, or no proof either way."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KILLED, SURVIVED, BROKEN = "killed", "survived", "broken"
# Code that does not run at all says nothing about the tests.
_NOT_RUN = (
    "AttributeError", "ImportError", "IndentationError", "ModuleNotFoundError", "NameError",
    "SyntaxError", "UnboundLocalError",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """`kind`, and in a few words why."""

    kind: str
    detail: str = ""


def verdict(status: int, report: Path, killers: Sequence[str]) -> Verdict:
    """Judge one run.

    Args:
        status: of pytest: 0 all passed, 1 some failed, others did not get that far.
        report: what it wrote as JUnit's XML.
        killers: the tests that may fail.
    """
    if status == 0:
        return Verdict(SURVIVED, "every named test passes")
    if status != 1 or not report.is_file():
        return Verdict(BROKEN, f"pytest ended with status {status}")
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        for error in case.iter("error"):
            return Verdict(BROKEN, f"{name}: {_first_line(error)}")
        for failure in case.iter("failure"):
            return _of_failure(name, _first_line(failure), killers)
    return Verdict(BROKEN, "pytest reported no failure")


def _of_failure(name: str, message: str, killers: Sequence[str]) -> Verdict:
    if not any(_is_named(name, killer) for killer in killers):
        return Verdict(BROKEN, f"{name} is not one of its tests")
    kind = re.match(r"(\w+)(:|$)", message)
    if kind and kind[1] in _NOT_RUN:
        return Verdict(BROKEN, f"{name}: {message}")
    return Verdict(KILLED, _short(name))


def _is_named(name: str, killer: str) -> bool:
    """Whether a test of the report is what an id of pytest names: itself, its class or its file."""
    file, *inner = killer.split("::")
    wanted = ".".join([file.removesuffix(".py").replace("/", "."), *inner])
    return name == wanted or name.startswith((f"{wanted}.", f"{wanted}["))


def _short(name: str) -> str:
    plain, bracket, values = name.partition("[")
    return f"{plain.rpartition('.')[2]}{bracket}{values}"[:100]


def _first_line(element: ElementTree.Element) -> str:
    return (element.get("message") or "").strip().partition("\n")[0][:200]
