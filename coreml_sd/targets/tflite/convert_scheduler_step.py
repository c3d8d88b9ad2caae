"""The file that lets the latents of a TFLite bundle stay in the runtime's buffers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coreml_sd.errors import CoremlSDError
from coreml_sd.models.component import ComponentSpec
from coreml_sd.progress import Progress
from coreml_sd.schedulers.linear_step import FILE_NAME


def convert_scheduler_step(
    unet: ComponentSpec, staging: Path, verify: bool, progress: Progress
) -> dict[str, Any]:
    """Write the scheduler step of a UNet and prove it; returns its entry in the manifest.

    Raises:
        CoremlSDError: the file fails its gate.
    """
    from coreml_sd.conversion.facts import scheduler_step_facts
    from coreml_sd.targets.tflite.scheduler_step import export_scheduler_step

    path = staging / FILE_NAME
    with progress.stage(f"scheduler step: export {FILE_NAME}"):
        export_scheduler_step(path, unet)
    entry = scheduler_step_facts(unet)
    if verify:
        with progress.stage("scheduler step: execute and compare"):
            entry["checks"] = [_proven(path, unet)]
    return entry


def _proven(path: Path, unet: ComponentSpec) -> dict[str, Any]:
    from coreml_sd.targets.tflite.scheduler_step_proof import scheduler_step_check

    check = scheduler_step_check(path, unet)
    if not check.passed:
        raise CoremlSDError(f"{path.name}: {check.shortfall}; the bundle is not written")
    return check.to_json()
