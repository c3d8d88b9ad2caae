"""The file that lets the latents of a TFLite bundle stay in the runtime's buffers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from coreml_sd.errors import CoremlSDError
from coreml_sd.manifest.form import SchedulerStep, ToldCheck
from coreml_sd.models.component import ComponentSpec
from coreml_sd.progress import Progress, Stage
from coreml_sd.schedulers.linear_step import GUIDED, LATENTS, WEIGHT_NAMES
from coreml_sd.targets.tflite.scheduler_step_names import FILE_NAME


def convert_scheduler_step(
    denoiser: ComponentSpec, staging: Path, verify: bool, progress: Progress
) -> Any:
    """Write the scheduler step of a denoiser and prove it; returns its entry in the manifest.

    Raises:
        CoremlSDError: the file fails its gate.
    """
    from coreml_sd.targets.tflite.scheduler_step import export_scheduler_step

    path = staging / FILE_NAME
    with progress.stage(Stage("export", "scheduler step", target="tflite", detail=FILE_NAME)):
        export_scheduler_step(path, denoiser)
    entry = scheduler_step_facts(denoiser)
    if verify:
        with progress.stage(Stage("verify", "scheduler step", target="tflite")):
            entry.checks = [_proven(path, denoiser)]
    return msgspec.to_builtins(entry)


def scheduler_step_facts(denoiser: ComponentSpec) -> SchedulerStep:
    """The step between two runs of a denoiser."""
    from coreml_sd.targets.tflite.scheduler_step import OUTPUTS, scheduler_step_inputs

    return SchedulerStep(
        FILE_NAME,
        "tflite",
        [spec.name for spec in scheduler_step_inputs(denoiser)],
        list(OUTPUTS),
        list(WEIGHT_NAMES),
        {"latents": LATENTS, "guided": GUIDED},
    )


def _proven(path: Path, denoiser: ComponentSpec) -> ToldCheck:
    from coreml_sd.targets.tflite.scheduler_step_proof import scheduler_step_check

    check = scheduler_step_check(path, denoiser)
    if not check.passed:
        raise CoremlSDError(f"{path.name}: {check.shortfall}; the bundle is not written")
    return msgspec.convert(check.to_json(), ToldCheck)
