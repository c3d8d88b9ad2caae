"""One component of a bundle for one target: what it tells, what is stored, what it computes."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coreml_sd.conversion.facts import (
    coreml_facts,
    mobile_options,
    package_facts,
    packages_of,
    tflite_facts,
)
from coreml_sd.conversion.plan import Plan
from coreml_sd.errors import CoremlSDError
from coreml_sd.mobile import mobile_form
from coreml_sd.models.component import ComponentSpec
from coreml_sd.parity.checks import Check, ComponentParity, count_check, decibels
from coreml_sd.parity.reference import Reference
from coreml_sd.progress import Progress
from coreml_sd.report.manifest_checks import told_check
from coreml_sd.targets.coreml.convert import export_whole


@dataclass(frozen=True)
class Subject:
    """One component of a bundle, what the bundle says of it, and what it is held against.

    `facts` are those that hold for every target; `source` is the network as it was read here,
    `own` as diffusers' own pipeline opens it, where it does.
    """

    plan: Plan
    component: ComponentSpec
    folder: Path
    entry: Mapping[str, Any]
    facts: Mapping[str, Any]
    source: Any
    own: Reference | None

    def files(self, target: str) -> list[dict[str, Any]]:
        """What the bundle says of the files of one target, in running order."""
        return [file for file in self.entry["files"] if file["target"] == target]

    def check(self, target: str, expected: Mapping[str, Any]) -> Check:
        """The component's entry, as far as it is about `target`, against what it has to be."""
        keys = {**self.facts, **expected}
        found = {key: self.entry[key] for key in keys if key in self.entry}
        found["files"] = self.files(target)
        return told_check("facts of the manifest", keys, found, measured=True)

    def absent(self, target: str, wanted: list[str]) -> ComponentParity | None:
        """The verdict where the files are not those that there should be: nothing is executed."""
        found = [file["path"] for file in self.files(target)]
        if found == wanted:
            return None
        detail = f"{', '.join(wanted)} should be there, not {', '.join(found) or 'nothing'}"
        check = count_check("files of the network: differences", 1, detail)
        return ComponentParity(self.component.name, target, "not executed", check.name, (check,))


def compare_coreml(subject: Subject, progress: Progress) -> ComponentParity:
    """The packages of one component against its source."""
    from coreml_sd.compress.palettization import palettize_module
    from coreml_sd.runtimes.mil import MilPackage
    from coreml_sd.targets.coreml.proof import component_parity
    from coreml_sd.targets.coreml.stored_checks import stored_weights_check

    plan, component, source = subject.plan, subject.component, subject.source
    name = component.name
    with progress.stage(f"{name}: Core ML, solve again and compare"):
        mobile = mobile_form(component.form, source, mobile_options(plan))
        packages = packages_of(plan, component, mobile)
        if absent := subject.absent("coreml", list(packages.pieces)):
            return absent
        paths = [subject.folder / each for each in packages.pieces]
        decided = palettize_module(mobile, plan.palettes) if plan.palettes else None
        result = component_parity(component, Reference(source), mobile, decided, paths, subject.own)
        pieces = zip(paths, packages.pieces.values(), strict=True)
        files = [package_facts(MilPackage(path), piece) for path, piece in pieces]
        facts = {"files": files, **coreml_facts(packages, mobile, decided)}
        checks = [stored_weights_check(paths, mobile, decided), subject.check("coreml", facts)]
    if len(paths) > 1:
        folder = tempfile.TemporaryDirectory(prefix="coreml-sd-")
        with progress.stage(f"{name}: chained chunks against the whole"), folder as place:
            whole = Path(place) / f"{component.file_name}.mlpackage"
            export_whole(plan, component, whole, mobile, decided)
            checks.append(chained_equals_whole(component.sample_inputs(0), paths, whole))
    return dataclasses.replace(result, checks=(*result.checks, *checks))


def compare_tflite(subject: Subject, progress: Progress) -> ComponentParity:
    """The .tflite of one component against its source."""
    from coreml_sd.targets.tflite.proof import component_parity
    from coreml_sd.targets.tflite.rewrites import android_form

    android, component, source = subject.plan.android, subject.component, subject.source
    if android is None:
        raise CoremlSDError(f"{component.name}: no TFLite in the config")
    name, gelu = component.name, android.profile.gelu
    with progress.stage(f"{name}: TFLite, compare"):
        file = f"{component.file_name}.tflite"
        if absent := subject.absent("tflite", [file]):
            return absent
        form, path = android_form(component, source, android.profile), subject.folder / file
        quantization = android.quantization_of(name)
        result = component_parity(
            component, Reference(source), form.network, path, quantization, gelu, own=subject.own
        )
        facts = tflite_facts(path, form.network, form.splits, quantization)
        check = subject.check("tflite", facts)
    return dataclasses.replace(result, checks=(*result.checks, check))


COMPARE = {"coreml": compare_coreml, "tflite": compare_tflite}


def chained_equals_whole(inputs: dict[str, Any], paths: list[Path], whole: Path) -> Check:
    """Chunks run one after another against one file of the same network, in fp16."""
    from coreml_sd.runtimes.chain import Chain
    from coreml_sd.runtimes.mil import MilNetwork

    expected = MilNetwork(whole).run(inputs)
    chained = Chain("chunks", [MilNetwork(path) for path in paths]).run(inputs)
    return decibels("chained chunks against the whole", [expected], [chained], math.inf)
