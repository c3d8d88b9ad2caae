"""Solve the palettes of many weights on threads, each weight in memory for a moment only."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed

from coreml_sd.compress.choose import affordable
from coreml_sd.compress.palette import Palette, PaletteSolver
from coreml_sd.compress.supported import PaletteSpec
from coreml_sd.models.weights.values import Weights, fp16_value

Shapes = Mapping[str, tuple[int, ...]]
Solved = tuple[Palette | None, str]  # None: the weight stays fp16; and why it is not as asked
Each = Callable[[str, Solved], None]


def solve_palettes(
    shapes: Shapes, spec: PaletteSpec, weights: Weights, each: Each, workers: int | None = None
) -> dict[str, Solved]:
    """The palettes of the weights that are worth one.

    Args:
        shapes: of the weights as the network has them.
        each: called with every weight when it is done, on the caller's thread.
        workers: threads; all cores where not given.

    Raises:
        UserError: a weight holds NaN, infinity or a value beyond fp16; the message names it.
    """
    solver = PaletteSolver()

    def solve(name: str) -> Solved:
        chosen, reason = affordable(shapes[name], spec)
        if chosen is None:
            return None, reason
        weight = fp16_value(weights, name).reshape(shapes[name])
        return solver.palettize(weight, chosen, name), reason

    # Large weights first: a thread that meets one last would work alone at the end.
    order = sorted(shapes, key=lambda name: -math.prod(shapes[name]))
    with ThreadPoolExecutor(max_workers=workers or os.cpu_count()) as pool:
        tasks = {pool.submit(solve, name): name for name in order}
        try:
            for task in as_completed(tasks):
                each(tasks[task], task.result())
        finally:
            pool.shutdown(cancel_futures=True)
    return {name: task.result() for task, name in tasks.items()}
