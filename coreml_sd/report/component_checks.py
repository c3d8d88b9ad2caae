"""One component of a bundle for one target: what it tells, what is stored, what it computes."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coreml_sd.convert_coreml import export_whole
from coreml_sd.errors import CoremlSDError
from coreml_sd.manifest_facts import (
    coreml_facts,
    mobile_options,
    package_facts,
    packages_of,
    tflite_facts,
)
from coreml_sd.mobile import mobile_form
from coreml_sd.models.component import ComponentSpec
from coreml_sd.parity.checks import Check, ComponentParity, count_check, decibels
from coreml_sd.parity.reference import Reference
from coreml_sd.plan import Plan
from coreml_sd.progress import Progress
from coreml_sd.report.manifest_checks import told_check


@dataclass(frozen=True)
class Told:
    """What a bundle says of one component, beside `facts` that hold for every target."""

    folder: Path
    entry: Mapping[str, Any]
    facts: Mapping[str, Any]

    def check(self, target: str, expected: Mapping[str, Any]) -> Check:
        """The component's entry, as far as it is about `target`, against what it has to be."""
        keys = {**self.facts, **expected}
        files = [file for file in self.entry["files"] if file["target"] == target]
        found = {key: self.entry[key] for key in keys if key in self.entry} | {"files": files}
        return told_check("facts of the manifest", keys, found, measured=True)

    def paths(self, target: str) -> list[str]:
        """The files of one target in running order."""
        return [file["path"] for file in self.entry["files"] if file["target"] == target]


def _absent(
    component: ComponentSpec, target: str, wanted: list[str], found: list[str]
) -> ComponentParity:
    """Nothing is executed where the files are not those that there should be."""
    detail = f"{', '.join(wanted)} should be there, not {', '.join(found) or 'nothing'}"
    check = count_check("files of the network: differences", 1, detail)
    return ComponentParity(component.name, target, "not executed", check.name, (check,))


def compare_coreml(
    told: Told,
    plan: Plan,
    component: ComponentSpec,
    source: Any,
    own: Reference | None,
    progress: Progress,
) -> ComponentParity:
    """The packages of one component against its source."""
    from coreml_sd.compress.plan import palettize_module
    from coreml_sd.parity.coreml import component_parity
    from coreml_sd.parity.stored import stored_weights_check

    name = component.name
    with progress.stage(f"{name}: Core ML, solve again and compare"):
        mobile = mobile_form(component.form, source, mobile_options(plan))
        packages = packages_of(plan, component, mobile)
        if told.paths("coreml") != list(packages.pieces):
            return _absent(component, "coreml", list(packages.pieces), told.paths("coreml"))
        paths = [told.folder / each for each in packages.pieces]
        decided = palettize_module(mobile, plan.palettes) if plan.palettes else None
        result = component_parity(component, Reference(source), mobile, decided, paths, own)
        pieces = packages.pieces.values()
        files = [package_facts(path, each) for path, each in zip(paths, pieces, strict=True)]
        facts = {"files": files, **coreml_facts(packages, mobile, decided)}
        checks = [stored_weights_check(paths, mobile, decided), told.check("coreml", facts)]
    if len(paths) > 1:
        with progress.stage(f"{name}: chained chunks against the whole"), _folder() as folder:
            whole = Path(folder) / f"{component.file_name}.mlpackage"
            export_whole(plan, component, whole, mobile, decided)
            checks.append(chained_equals_whole(component.sample_inputs(0), paths, whole))
    return dataclasses.replace(result, checks=(*result.checks, *checks))


def compare_tflite(
    told: Told,
    plan: Plan,
    component: ComponentSpec,
    source: Any,
    own: Reference | None,
    progress: Progress,
) -> ComponentParity:
    """The .tflite of one component against its source."""
    from coreml_sd.parity.tflite import component_parity
    from coreml_sd.targets.tflite.rewrites import android_form

    if plan.android is None:
        raise CoremlSDError(f"{component.name}: no TFLite in the config")
    name, profile = component.name, plan.android.profile
    with progress.stage(f"{name}: TFLite, compare"):
        wanted = [f"{component.file_name}.tflite"]
        if told.paths("tflite") != wanted:
            return _absent(component, "tflite", wanted, told.paths("tflite"))
        form = android_form(component, source, profile)
        path = told.folder / wanted[0]
        quantization = plan.android.quantization_of(name)
        result = component_parity(
            component, Reference(source), form.network, path, quantization, profile.gelu, own=own
        )
        facts = tflite_facts(path, form.network, form.splits, quantization)
        check = told.check("tflite", facts)
    return dataclasses.replace(result, checks=(*result.checks, check))


COMPARE = {"coreml": compare_coreml, "tflite": compare_tflite}


def chained_equals_whole(inputs: dict[str, Any], paths: list[Path], whole: Path) -> Check:
    """Chunks run one after another against one file of the same network, in fp16."""
    from coreml_sd.runtimes.chain import Chain
    from coreml_sd.runtimes.mil import MilNetwork

    expected = MilNetwork(whole).run(inputs)
    chained = Chain("chunks", [MilNetwork(path) for path in paths]).run(inputs)
    return decibels("chained chunks against the whole", [expected], [chained], math.inf)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="coreml-sd-")
