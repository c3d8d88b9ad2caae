"""Where to cut a network into chunks: even weight, small seams, every file under the limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from coreml_sd.errors import UserError
from coreml_sd.mobile.steps import StepSequence

AUTO_LIMIT = 1_000_000_000  # bytes of weights: iOS refuses or kills larger single files
_FP16 = 2
Shapes = Callable[[], dict[str, tuple[int, ...]]]


@dataclass(frozen=True)
class CutPlan:
    """`boundaries` are step indices; per chunk its weight bytes, per seam its bytes in fp16."""

    boundaries: tuple[int, ...]
    weight_bytes: tuple[int, ...]
    seam_bytes: tuple[int, ...]


def plan_cuts(
    network: StepSequence,
    shapes: Shapes,
    chunks: str,
    stored_bytes: Sequence[int] | None = None,
) -> CutPlan:
    """Choose the cuts.

    Args:
        shapes: of every named tensor, asked for only where there is something to cut.
        chunks: a number, or `auto`: the fewest chunks whose files stay under 1 GB.
        stored_bytes: weight bytes of each step as they will be stored (default: fp16).

    Raises:
        UserError: more chunks than steps that hold weights.
    """
    weights = list(stored_bytes if stored_bytes is not None else network.step_bytes())
    if chunks != "auto":
        return _best_plan(network, shapes, weights, int(chunks))
    fewest = max(1, -(-sum(weights) // AUTO_LIMIT))
    for count in range(fewest, len(weights) + 1):
        plan = _best_plan(network, shapes, weights, count)
        if max(plan.weight_bytes) <= AUTO_LIMIT:
            return plan
    raise UserError("one layer alone is over 1 GB; give --chunks a number to go on anyway")


def _best_plan(
    network: StepSequence,
    shapes: Shapes,
    weights: Sequence[int],
    count: int,
) -> CutPlan:
    """The cuts with the least cost: largest chunk's weight bytes plus all seam bytes.

    Both matter in the same unit: the largest chunk decides the memory, seams are copied between
    chunks on every step.
    """
    bearing = sum(1 for weight in weights if weight > 0)
    if count > bearing:
        raise UserError(f"chunks = {count}: this network has {bearing} parts; choose at most that")
    if count == 1:
        return CutPlan((), (sum(weights),), ())
    totals = [0]
    for weight in weights:
        totals.append(totals[-1] + weight)
    named = shapes()
    seams = [_seam_bytes(network, named, cut) for cut in range(len(weights) + 1)]
    cuts = _cut_evenly(totals, seams, count)
    return CutPlan(
        tuple(cuts),
        tuple(totals[end] - totals[start] for start, end in pairwise([0, *cuts, len(weights)])),
        tuple(seams[cut] for cut in cuts),
    )


def _cut_evenly(totals: Sequence[int], seams: Sequence[int], count: int) -> list[int]:
    """Dynamic programme over (chunks made, steps used): minimise (largest chunk + seams)."""
    steps = len(totals) - 1
    best: list[dict[int, tuple[int, int, list[int]]]] = [{0: (0, 0, [])}]
    for made in range(1, count + 1):
        reached: dict[int, tuple[int, int, list[int]]] = {}
        ends = [steps] if made == count else range(made, steps)
        for end in ends:
            options = [
                (
                    max(largest, totals[end] - totals[start]),
                    crossing + (seams[end] if end < steps else 0),
                    [*cuts, end],
                )
                for start, (largest, crossing, cuts) in best[-1].items()
                if start < end and totals[end] > totals[start]
            ]
            if options:
                reached[end] = min(options, key=lambda option: option[0] + option[1])
        best.append(reached)
    return best[count][steps][2][:-1]


def _seam_bytes(network: StepSequence, shapes: dict[str, tuple[int, ...]], cut: int) -> int:
    return sum(_FP16 * prod(shapes[name]) for name in network.seam(cut))
