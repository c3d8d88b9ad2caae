"""The file between two runs of the denoiser, and the plans that have one."""

from __future__ import annotations

from coreml_sd.models.component import ComponentSpec
from coreml_sd.targets.plan import Plan

FILE_NAME = "SchedulerStep.tflite"


def denoiser_of(plan: Plan) -> ComponentSpec | None:
    """The denoiser that a plan converts, if the step combines what it gives: one that is told the
    guidance gives what is combined already."""
    if plan.model.facts.denoiser.guidance == "embedded":
        return None
    return next((each for each in plan.components if each.role == "denoiser"), None)
