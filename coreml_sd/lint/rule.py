"""A rule: a small function over the view of one file, registered with its id and severity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from coreml_sd.lint.finding import Finding, Severity

View = TypeVar("View")


class Hit(NamedTuple):
    """Where a rule is broken; `severity` only where it differs from the rule's own."""

    op: str
    layer: str
    why: str
    remedy: str
    severity: Severity | None = None


@dataclass(frozen=True)
class Rule(Generic[View]):
    """One rule; `gpu_only` rules are left out for a profile that computes on the CPU."""

    id: str
    severity: Severity
    description: str
    check: Callable[[View], Iterable[Hit]]
    gpu_only: bool


class RuleSet(Generic[View]):
    """The rules of one kind of file, in the order in which they are written down."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.rules: list[Rule[View]] = []

    def rule(
        self, name: str, severity: Severity, description: str, *, gpu_only: bool = False
    ) -> Callable[[Callable[[View], Iterable[Hit]]], Callable[[View], Iterable[Hit]]]:
        """Register the decorated function as `prefix/name`."""

        def register(check: Callable[[View], Iterable[Hit]]) -> Callable[[View], Iterable[Hit]]:
            self.rules.append(Rule(f"{self.prefix}/{name}", severity, description, check, gpu_only))
            return check

        return register


def broken(rules: Iterable[Rule[View]], view: View, name: str) -> Iterator[Finding]:
    """What rules find in the view of one file, which findings call `name`."""
    for rule in rules:
        for hit in rule.check(view):
            severity = hit.severity or rule.severity
            yield Finding(name, rule.id, severity, hit.op, hit.layer, hit.why, hit.remedy)
