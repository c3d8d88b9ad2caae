"""A conversion that is planned and predicted, before any work."""

from __future__ import annotations

from dataclasses import dataclass

from coreml_sd.conversion.prediction import Prediction, predict
from coreml_sd.targets.plan import Plan


@dataclass(frozen=True)
class PlannedConversion:
    """What is done, what it will take, and how it is done.

    Attributes:
        verify: every file is executed.
        jobs: processes at most; None where cores, memory and the model's size decide.
        memory: bytes that all processes together may use; None is what is free.
    """

    plan: Plan
    prediction: Prediction
    verify: bool
    jobs: int | None = None
    memory: int | None = None


def foresee(
    plan: Plan,
    *,
    verify: bool = True,
    jobs: int | None = None,
    memory: int | None = None,
    measured: float | None = None,
) -> PlannedConversion:
    """Predict what a plan will take. `measured` is what the probe took here, None as where the
    rates were measured.

    Raises:
        UserError: a weight file is missing or damaged.
    """
    prediction = predict(plan, verify, jobs=jobs, memory=memory, measured=measured)
    return PlannedConversion(plan, prediction, verify, jobs, memory)
