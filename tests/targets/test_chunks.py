"""Where a network is cut: even weight, small seams, every file under the limit."""

from __future__ import annotations

from typing import Any

import pytest

from coreml_sd.targets.coreml import chunks
from coreml_sd.targets.coreml.chunks import plan_cuts


class Network:
    """Four steps of equal weight; one tensor crosses each cut."""

    def step_bytes(self) -> list[int]:
        return [1000] * 4

    def seam(self, cut: int) -> tuple[str, ...]:
        return (f"seam {cut}",)


def cuts(count: str, **seams: int) -> chunks.CutPlan:
    """`seams`: elements that cross a cut, `at_2`; 1 elsewhere."""
    shapes: dict[str, tuple[int, ...]]
    shapes = {f"seam {cut}": (seams.get(f"at_{cut}", 1),) for cut in range(5)}
    network: Any = Network()
    return plan_cuts(network, lambda: shapes, count)


def test_equal_seams_leave_equal_weights() -> None:
    plan = cuts("2")
    assert (plan.boundaries, plan.weight_bytes, plan.seam_bytes) == ((2,), (2000, 2000), (2,))


def test_a_large_seam_is_not_cut() -> None:
    """1,000 bytes more in the largest chunk are less than 4,000 in the seam."""
    plan = cuts("2", at_2=2000)
    assert plan.boundaries in ((1,), (3,)) and max(plan.weight_bytes) == 3000


def test_no_chunk_is_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunks would do by their sum, and one of them would be too large."""
    monkeypatch.setattr(chunks, "AUTO_LIMIT", 2500)
    plan = cuts("auto", at_2=2000)
    assert len(plan.weight_bytes) > 2 and max(plan.weight_bytes) <= 2500
