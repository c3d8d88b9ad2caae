"""From the mobile form to a .tflite: rewrites of the profile, export, quantization and proof."""

from __future__ import annotations

import gc
from pathlib import Path

from coreml_sd.parity.checks import ComponentParity
from coreml_sd.processes.memory import give_back
from coreml_sd.progress import Stage
from coreml_sd.targets.job import ConversionJob, Converted
from coreml_sd.targets.tflite.facts import tflite_facts
from coreml_sd.targets.tflite.rewrites import AndroidForm, android_form
from coreml_sd.targets.tflite.settings import settings_of


def convert_for_tflite(job: ConversionJob) -> Converted:
    """Write the .tflite of one component and prove it.

    Raises:
        CoremlSDError: the file fails its gates.
    """
    settings, component = settings_of(job.plan), job.component
    quantization = settings.quantization_of(component.name)
    form = android_form(component, job.source.network, settings.profile)
    path = job.staging / f"{component.file_name}.tflite"
    unquantized = path.with_suffix(".fp32")
    _export(job, form, path, unquantized)
    facts = tflite_facts(path, form.network, form.splits, quantization)
    parity = _proof(job, path, unquantized) if job.verify else None
    unquantized.unlink(missing_ok=True)
    return Converted(facts, parity)


def _export(job: ConversionJob, form: AndroidForm, path: Path, unquantized: Path) -> None:
    """With a proof, which executes the file before quantization too, that one is written first."""
    from coreml_sd.targets.tflite.export import export, export_tflite
    from coreml_sd.targets.tflite.quantize import quantize_exported, quantize_file
    from coreml_sd.targets.tflite.unread_weights import unread_weights

    name, inputs, source = job.component.name, job.component.inputs, job.source
    quantization = settings_of(job.plan).quantization_of(name)
    exporting = job.progress.stage(Stage("export", name, target="tflite", detail=path.name))
    quantizing = job.progress.stage(Stage("quantize", name, target="tflite", detail=quantization))
    with unread_weights(form.network, source.network, source.weights) as unread:
        if job.verify:
            with exporting:
                export_tflite(unquantized, name, form.network, inputs, unread)
            gc.collect()  # what the exporter left behind
            give_back()
            with quantizing:
                quantize_file(unquantized, path, quantization)
        else:
            with exporting:
                exported = export(path.name, name, form.network, inputs, unread)
            give_back()
            with quantizing:
                quantize_exported(exported, path, quantization)


def _proof(job: ConversionJob, path: Path, unquantized: Path) -> ComponentParity:
    from coreml_sd.parity.reference import reference
    from coreml_sd.targets.tflite.proof import component_parity

    settings, component = settings_of(job.plan), job.component
    profile, quantization = settings.profile, settings.quantization_of(component.name)
    with job.progress.stage(Stage("verify", component.name, target="tflite")):
        source = reference(component, job.source)
        network = android_form(component, source.network, profile).network
        before = unquantized if unquantized.exists() else None
        return component_parity(
            component, source, network, path, quantization, profile.gelu, before,
            own=job.own, scratch=job.staging,
        )  # fmt: skip
