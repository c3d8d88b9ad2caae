"""The file between two runs of the denoiser, and the plans that have one."""

from __future__ import annotations

from coreml_sd.models.component import ComponentSpec
from coreml_sd.targets.plan import Plan

FILE_NAME = "SchedulerStep.tflite"


def denoiser_of(plan: Plan) -> ComponentSpec | None:
    """The model's usual denoiser, where a plan converts it and the step combines what it gives:
    one that takes a single row gives what is combined already."""
    usual = plan.model.facts.denoiser
    if usual.guidance != "classifier-free":
        return None
    return next((each for each in plan.components if each.name == usual.component), None)
