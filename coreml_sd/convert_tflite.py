"""The TFLite side of a conversion: rewrites of the profile, export, quantization and proof."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from coreml_sd.memory.freed import let_go
from coreml_sd.models.component import ComponentSpec
from coreml_sd.plan import Plan
from coreml_sd.progress import Progress
from coreml_sd.sources import OpenedSource


def convert_for_tflite(
    plan: Plan,
    component: ComponentSpec,
    opened: OpenedSource,
    staging: Path,
    verify: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Write the .tflite of one component and prove it; returns its part of the manifest.

    Raises:
        CoremlSDError: the file fails its gates.
    """
    from coreml_sd.parity.reference import reference
    from coreml_sd.runtimes.litert.file import TFLiteFile
    from coreml_sd.targets.tflite.export import export_tflite
    from coreml_sd.targets.tflite.quantize import quantize_file
    from coreml_sd.targets.tflite.rewrites import android_form

    assert plan.android is not None and opened.in_memory
    source = opened.network
    profile = plan.android.profile
    quantization = plan.android.quantization_of(component.name)
    form = android_form(component, source, profile)
    path = staging / f"{component.file_name}.tflite"
    unquantized = path.with_suffix(".fp32")
    with progress.stage(f"{component.name}: export {path.name}"):
        export_tflite(unquantized, component.name, form.network, component.inputs)
    # The quantizer reads the file and needs the room of what the exporter left behind, and that of
    # the network too where nothing follows that runs it.
    held = reference(component, opened) if verify else None
    last = held is None and plan.config.targets[-1] == "tflite"
    let_go(*((source, form.network) if last or (held and held.is_lean) else ()))
    with progress.stage(f"{component.name}: {quantization} weights"):
        quantize_file(unquantized, path, quantization)
    written = TFLiteFile(path)
    entry: dict[str, Any] = {
        "files": [
            {
                "path": path.name,
                "target": "tflite",
                "inputs": list(form.network.inputs),
                "outputs": list(form.network.outputs),
                "weight_bytes": written.weight_bytes(),
                "quantization": quantization,
            }
        ],
        "ops": written.op_counts(),
        "splits": [dataclasses.asdict(split) for split in form.splits],
    }
    if verify:
        from coreml_sd.parity.tflite import component_parity

        with progress.stage(f"{component.name}: execute and compare"):
            assert held is not None
            network = android_form(component, held.network, profile).network
            before = unquantized if unquantized.exists() else None
            entry["parity"] = component_parity(
                component, held.network, network, path, quantization, profile.gelu, before,
                weights=held.weights, scratch=staging,
            )  # fmt: skip
    unquantized.unlink(missing_ok=True)
    return entry
