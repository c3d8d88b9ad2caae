"""The packages of a finished bundle against their source, worked out anew."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

from coreml_sd.mobile import mobile_form
from coreml_sd.parity.checks import Check, ComponentParity, decibels
from coreml_sd.parity.reference import Reference
from coreml_sd.progress import Stage
from coreml_sd.targets.coreml.convert import export_whole
from coreml_sd.targets.coreml.facts import coreml_facts, package_facts, packages_of
from coreml_sd.targets.coreml.settings import mobile_options
from coreml_sd.targets.subject import Subject


def compare_packages(subject: Subject) -> ComponentParity:
    """The packages of one component against its source."""
    from coreml_sd.compress.palettization import palettize_module
    from coreml_sd.runtimes.mil import MilPackage
    from coreml_sd.targets.coreml.proof import component_parity
    from coreml_sd.targets.coreml.stored_checks import stored_weights_check

    plan, component, source = subject.plan, subject.component, subject.source
    with subject.progress.stage(Stage("compare", component.name, target="coreml")):
        mobile = mobile_form(component.form, source, mobile_options(plan))
        packages = packages_of(plan, component, mobile)
        if absent := subject.absent("coreml", list(packages.pieces)):
            return absent
        paths = [subject.folder / name for name in packages.pieces]
        decided = palettize_module(mobile, plan.palettes) if plan.palettes else None
        result = component_parity(component, Reference(source), mobile, decided, paths, subject.own)
        pieces = zip(paths, packages.pieces.values(), strict=True)
        files = [package_facts(MilPackage(path), piece) for path, piece in pieces]
        facts = coreml_facts(packages, mobile, decided, files)
        checks = [stored_weights_check(paths, mobile, decided), subject.check("coreml", facts)]
    if len(paths) > 1:
        folder = tempfile.TemporaryDirectory(prefix="coreml-sd-")
        with subject.progress.stage(Stage("chain", component.name)), folder as place:
            whole = Path(place) / f"{component.file_name}.mlpackage"
            export_whole(plan, component, whole, mobile, decided)
            checks.append(chained_equals_whole(component.sample_inputs(0), paths, whole))
    return dataclasses.replace(result, checks=(*result.checks, *checks))


def chained_equals_whole(inputs: dict[str, Any], paths: list[Path], whole: Path) -> Check:
    """Chunks run one after another against one file of the same network, in fp16."""
    from coreml_sd.runtimes.chain import Chain
    from coreml_sd.runtimes.mil import MilNetwork

    expected = MilNetwork(whole).run(inputs)
    chained = Chain("chunks", [MilNetwork(path) for path in paths]).run(inputs)
    return decibels("chained chunks against the whole", [expected], [chained], math.inf)
