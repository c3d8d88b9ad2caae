"""Facts that a manifest tells against what they have to be."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from coreml_sd.parity.checks import Check, count_check

_MEASURED = 1e-3  # relative: figures that were measured, elsewhere maybe


def told_check(
    name: str, expected: Mapping[str, Any], found: Mapping[str, Any], *, measured: bool = False
) -> Check:
    """Facts of the manifest that are not what they have to be.

    Args:
        measured: numbers that are no integers were measured, and may differ by a thousandth.
    """
    tolerance = _MEASURED if measured else 0.0
    wrong = list(_differences(json.loads(json.dumps(expected)), found, "", tolerance))
    return count_check(f"{name}: differences", len(wrong), "; ".join(wrong[:3]))


def _differences(expected: Any, found: Any, place: str, tolerance: float) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            where = f"{place}.{key}".removeprefix(".")
            if key not in found:
                yield f"{where} is missing"
            elif key not in expected:
                yield f"{where} is {_short(found[key])}, not there"
            else:
                yield from _differences(expected[key], found[key], where, tolerance)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _differences(one, other, f"{place}[{number}]", tolerance)
    elif not _equal(expected, found, tolerance):
        yield f"{place} is {_short(found)}, not {_short(expected)}"


def _equal(expected: Any, found: Any, tolerance: float) -> bool:
    numbers = (int, float)
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, float) and isinstance(found, numbers):
        return math.isclose(expected, found, rel_tol=tolerance, abs_tol=0.0)
    return bool(expected == found)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."
