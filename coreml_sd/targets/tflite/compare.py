"""The files of a finished bundle against their source, worked out anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from msgspec import to_builtins

from coreml_sd.bundle import Bundle
from coreml_sd.models.component import ComponentSpec
from coreml_sd.parity.checks import Check, ComponentParity
from coreml_sd.parity.reference import Reference
from coreml_sd.parity.told import told_check
from coreml_sd.progress import Stage
from coreml_sd.targets.subject import Subject
from coreml_sd.targets.tflite.convert_scheduler_step import scheduler_step_facts
from coreml_sd.targets.tflite.facts import tflite_facts
from coreml_sd.targets.tflite.rewrites import android_form
from coreml_sd.targets.tflite.settings import settings_of


def compare_file(subject: Subject) -> ComponentParity:
    """The .tflite of one component against its source."""
    from coreml_sd.targets.tflite.proof import component_parity

    settings, component, source = settings_of(subject.plan), subject.component, subject.source
    profile, quantization = settings.profile, settings.quantization_of(component.name)
    with subject.progress.stage(Stage("compare", component.name, target="tflite")):
        file = f"{component.file_name}.tflite"
        if absent := subject.absent("tflite", [file]):
            return absent
        form, path = android_form(component, source, profile), subject.folder / file
        result = component_parity(
            component, Reference(source), form.network, path, quantization, profile.gelu,
            own=subject.own,
        )  # fmt: skip
        facts = tflite_facts(path, form.network, form.splits, quantization)
        check = subject.check("tflite", facts)
    return dataclasses.replace(result, checks=(*result.checks, check))


def compare_scheduler_step(denoiser: ComponentSpec, bundle: Bundle) -> Iterator[Check]:
    """The step between two runs of the denoiser, and what the manifest says of it."""
    from coreml_sd.targets.tflite.scheduler_step_proof import scheduler_step_check

    entry = dict(bundle.manifest.get("scheduler_step", {}))
    entry.pop("checks", None)
    yield told_check("scheduler step", to_builtins(scheduler_step_facts(denoiser)), entry)
    if "path" in entry:
        check = scheduler_step_check(bundle.path / entry["path"], denoiser)
        yield dataclasses.replace(check, name=f"scheduler step: {check.name}")
