"""The TFLite side of a conversion: rewrites of the profile, export, quantization and proof."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coreml_sd.compress.source_network import OpenedSource
from coreml_sd.conversion.facts import tflite_facts
from coreml_sd.conversion.plan import Plan
from coreml_sd.models.component import ComponentSpec
from coreml_sd.processes.memory import give_back
from coreml_sd.progress import Progress

if TYPE_CHECKING:
    from coreml_sd.parity.reference import Reference


def convert_for_tflite(
    plan: Plan,
    component: ComponentSpec,
    opened: OpenedSource,
    staging: Path,
    verify: bool,
    progress: Progress,
    own: Reference | None = None,
) -> dict[str, Any]:
    """Write the .tflite of one component and prove it; returns its part of the manifest.

    With `verify` it is held against `own`, the network as diffusers opens it, where it does.

    Raises:
        CoremlSDError: the file fails its gates.
    """
    from coreml_sd.targets.tflite.export import export, export_tflite
    from coreml_sd.targets.tflite.quantize import quantize_exported, quantize_file
    from coreml_sd.targets.tflite.rewrites import android_form
    from coreml_sd.targets.tflite.unread_weights import unread_weights

    assert plan.android is not None
    source = opened.network
    profile = plan.android.profile
    quantization = plan.android.quantization_of(component.name)
    form = android_form(component, source, profile)
    path = staging / f"{component.file_name}.tflite"
    unquantized = path.with_suffix(".fp32")
    exporting = progress.stage(f"{component.name}: export {path.name}")
    quantizing = progress.stage(f"{component.name}: {quantization} weights")
    with unread_weights(form.network, source, opened.weights) as unread:
        if verify:  # which executes the file before quantization too
            with exporting:
                export_tflite(unquantized, component.name, form.network, component.inputs, unread)
            gc.collect()  # what the exporter left behind
            give_back()
            with quantizing:
                quantize_file(unquantized, path, quantization)
        else:
            with exporting:
                exported = export(path.name, component.name, form.network, component.inputs, unread)
            give_back()
            with quantizing:
                quantize_exported(exported, path, quantization)
    entry = tflite_facts(path, form.network, form.splits, quantization)
    if verify:
        from coreml_sd.parity.reference import reference
        from coreml_sd.targets.tflite.proof import component_parity

        with progress.stage(f"{component.name}: execute and compare"):
            held = reference(component, opened)
            network = android_form(component, held.network, profile).network
            before = unquantized if unquantized.exists() else None
            entry["parity"] = component_parity(
                component, held, network, path, quantization, profile.gelu, before,
                own=own, scratch=staging,
            )  # fmt: skip
    unquantized.unlink(missing_ok=True)
    return entry
