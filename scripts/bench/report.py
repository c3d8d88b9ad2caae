"""The figures as Markdown tables, with the goals they are held against."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.bench.contest import Result
from scripts.bench.document import markers, replaced
from scripts.bench.networks import Measured

FASTER, LEANER = 1.3, 2 / 3  # dynamic int8 against the best torch run
NOISE = 0.03  # two equal files differ by this much between runs
_INT8, _STRAIGHT = "litert dynamic-int8", ", straight"
_PACKAGES = ("torch", "diffusers", "ai-edge-litert", "litert-torch")


@dataclass(frozen=True)
class Section:
    """A part of the page: `name` is that of its markers there, `facts` is what goes into JSON."""

    name: str
    text: str
    facts: dict[str, Any]


def machine() -> str:
    """The processor, its cores, the versions and the day."""
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    processor = names[0] if names else platform.processor()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return f"{processor}, {os.cpu_count()} cores; {versions}; {datetime.date.today()}"


def speed_section(measured: Measured, results: Sequence[Result], reference: Result) -> Section:
    """One network: a row for each contestant, then the goals."""
    goals = _goals({r.contestant.label: r for r in results}, reference)
    digits = 2 if reference.median >= 0.2 else 4
    shape = "x".join(map(str, measured.component.inputs[0].shape))
    rounds = len(results[0].seconds)
    lines = [
        f"**{measured.model}**, latent {shape}, {rounds} rounds ({machine()}):",
        "",
        "| | threads | seconds per step (min to max) | speed | peak GB | private GB | dB |",
        "|---|---|---|---|---|---|---|",
        *(_row(result, digits) for result in results),
        "",
        *(f"- {goal}" for goal in goals),
    ]
    facts = {
        "model": measured.model,
        "sample": list(measured.component.inputs[0].shape),
        "machine": machine(),
        "reference": reference.contestant.label,
        "results": [_facts(result) for result in results],
        "goals": goals,
    }
    return Section(f"{measured.model}-batch{measured.batch}", "\n".join(lines), facts)


def _facts(result: Result) -> dict[str, Any]:
    facts = asdict(result) | {"median": result.median, "speed": result.speed}
    return facts | {"decibels": result.decibels if math.isfinite(result.decibels) else None}


def _row(result: Result, digits: int) -> str:
    low, high = min(result.seconds), max(result.seconds)
    spread = f"{result.median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    decibels = f"{result.decibels:.1f}" if math.isfinite(result.decibels) else "reference"
    return (
        f"| {result.contestant.label} | {result.threads} | {spread} | {result.speed:.2f}x "
        f"| {result.peak_gb:.2f} | {result.private_gb:.2f} | {decibels} |"
    )


def _goals(by_label: dict[str, Result], reference: Result) -> list[str]:
    lines = []
    best = reference.contestant.label
    if _INT8 in by_label:
        found = by_label[_INT8]
        share = found.peak_gb / reference.peak_gb
        lines.append(
            f"{_INT8} at least {FASTER:.1f}x as fast as {best}: {found.speed:.2f}x "
            f"({_fastest(reference, found):.2f}x by the fastest steps), "
            f"{_verdict(found.speed >= FASTER)}"
        )
        lines.append(
            f"{_INT8} in at most two thirds of the memory of {best}: {share:.2f} of it "
            f"({found.peak_gb:.2f} of {reference.peak_gb:.2f} GB), {_verdict(share <= LEANER)}"
        )
    for label, result in by_label.items():
        straight = by_label.get(label + _STRAIGHT)
        if straight is not None:
            ratio = result.speed / straight.speed
            lines.append(
                f"{label}: the mobile form no slower than the straight export: {ratio:.2f}x as "
                f"fast ({_fastest(straight, result):.2f}x by the fastest steps), "
                f"{_verdict(ratio >= 1 - NOISE)}"
            )
    return lines


def _fastest(reference: Result, result: Result) -> float:
    """Times as fast where neither was disturbed; on a quiet machine the same as by medians."""
    return min(reference.seconds) / min(result.seconds)


def _verdict(met: bool) -> str:
    return "**met**" if met else "**not met**"


def write(page: Path, sections: Sequence[Section]) -> None:
    """Put each section between its markers, at the end of the page where it has none yet."""
    text = page.read_text() if page.exists() else "# Benchmarks\n"
    for section in sections:
        begin, end = markers(section.name)
        if begin not in text:
            text = f"{text.rstrip()}\n\n{begin}\n{end}\n"
        text = replaced(text, section.name, f"{section.text}\n")
    page.write_text(text)
