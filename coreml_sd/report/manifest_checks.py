"""What a bundle tells of itself against its source and its config, and nothing left out.

What has to be there is worked out from the source and the config, never from the bundle: a bundle
cannot pass by holding less.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from coreml_sd.bundle import Bundle
from coreml_sd.conversion.facts import model_facts, scheduler_step_facts
from coreml_sd.conversion.plan import Plan
from coreml_sd.conversion.promised import has_scheduler_step, lacking
from coreml_sd.manifest.rules import is_inside
from coreml_sd.metrics import psnr_db
from coreml_sd.models.folder.tokenizer_files import MERGES_NAME, VOCAB_NAME
from coreml_sd.parity.checks import Check, ComponentParity, count_check

BUNDLE = "bundle"
_TOKENIZER_FILES = (VOCAB_NAME, MERGES_NAME)
_PREVIEW_GATE = 60.0  # dB; its numbers are rounded to five places
_MEASURED = 1e-3  # relative: figures that were measured, elsewhere maybe
# Versions of tools and the figures of the conversion are not: nothing here could tell whether they
# are true, and nothing depends on them.
_CHECKED = (
    "format", "manifest_version", "manifest_sha256", "model", "config", "notes", "pipeline",
    "components", "scheduler_step", "files",
)  # fmt: skip


def manifest_parity(
    plan: Plan, bundle: Bundle, source: Bundle, notes: list[str]
) -> ComponentParity:
    """Every fact, file and fixture of a bundle that is no network's.

    Args:
        source: `source_bundle` of the same plan.
        notes: what a conversion of the same config says.
    """
    told = {key: value for key, value in bundle.pipeline.items() if key != "preview"}
    model = model_facts(plan, bundle.manifest["model"]["sha256"])  # which was compared before
    head = {"model": model, "config": plan.config.to_dict(), "notes": notes}
    found = {key: bundle.manifest[key] for key in head}
    checks = [
        _promised(plan, bundle),
        told_check("what generation is told", source.pipeline, told),
        _tokenizer_files(source, bundle),
        told_check("model, config and notes", head, found),
    ]
    if has_scheduler_step(plan):
        checks += _scheduler_step(plan, bundle)
    label = "read again from the source and the config"
    return ComponentParity(BUNDLE, "manifest", label, checks[0].name, tuple(checks))


def told_check(
    name: str, expected: Mapping[str, Any], found: Mapping[str, Any], *, measured: bool = False
) -> Check:
    """Facts of the manifest that are not what they have to be.

    Args:
        measured: numbers that are no integers were measured, and may differ by a thousandth.
    """
    tolerance = _MEASURED if measured else 0.0
    wrong = list(_differences(json.loads(json.dumps(expected)), found, "", tolerance))
    return count_check(f"{name}: differences", len(wrong), "; ".join(wrong[:3]))


def preview_check(expected: Mapping[str, Any], found: Mapping[str, Any] | None) -> Check:
    """The map from a latent to a rough picture against the one of the source's VAE."""
    name = "preview of a latent against the source's VAE"
    if found is None:
        return Check(name, -math.inf, "dB", _PREVIEW_GATE, False, "missing")
    rows = [[*facts["weights"], facts["bias"]] for facts in (expected, found)]
    same_form = len(rows[0]) == len(rows[1])
    value = psnr_db(*rows) if same_form else -math.inf
    return Check(name, value, "dB", _PREVIEW_GATE, value >= _PREVIEW_GATE)


def unchecked(plan: Plan, bundle: Bundle) -> tuple[str, ...]:
    """Files and facts of a bundle that nothing here looks at."""
    known = {component.name for component in plan.components}
    networks = [
        file["path"]
        for name, entry in bundle.components.items()
        if name in known
        for file in entry["files"]
        if file["target"] in plan.config.targets
    ]
    step = bundle.manifest.get("scheduler_step")
    if step and has_scheduler_step(plan):
        networks.append(step["path"])
    files = [
        name
        for name in bundle.manifest["files"]
        if name not in _TOKENIZER_FILES and not any(is_inside(name, path) for path in networks)
    ]
    told = [key for key in bundle.manifest if key not in _CHECKED]
    return (*told, *files)


def _promised(plan: Plan, bundle: Bundle) -> Check:
    known = {component.name for component in plan.components}
    missing = list(lacking(plan, bundle.manifest))
    strange = [f"{name}, which was not asked for" for name in bundle.components.keys() - known]
    strange += [
        f"{file['path']} for {file['target']}, which was not asked for"
        for entry in bundle.components.values()
        for file in entry["files"]
        if file["target"] not in plan.config.targets
    ]
    wrong = [*missing, *strange]
    return count_check("what the config promises: missing or strange", len(wrong), ", ".join(wrong))


def _tokenizer_files(source: Bundle, bundle: Bundle) -> Check:
    """Byte for byte what a conversion of the source writes."""
    wrong = [
        name
        for name in _TOKENIZER_FILES
        if (source.path / name).read_bytes() != (bundle.path / name).read_bytes()
    ]
    return count_check("files of the tokenizer: differences", len(wrong), ", ".join(wrong))


def _scheduler_step(plan: Plan, bundle: Bundle) -> Iterator[Check]:
    from coreml_sd.targets.tflite.scheduler_step_proof import scheduler_step_check

    unet = plan.model.component("unet")
    entry = dict(bundle.manifest.get("scheduler_step", {}))
    entry.pop("checks", None)
    yield told_check("scheduler step", scheduler_step_facts(unet), entry)
    if "path" in entry:
        check = scheduler_step_check(bundle.path / entry["path"], unet)
        yield dataclasses.replace(check, name=f"scheduler step: {check.name}")


def _differences(expected: Any, found: Any, place: str, tolerance: float) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            where = f"{place}.{key}".removeprefix(".")
            if key not in found:
                yield f"{where} is missing"
            elif key not in expected:
                yield f"{where} is {_short(found[key])}, not there"
            else:
                yield from _differences(expected[key], found[key], where, tolerance)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _differences(one, other, f"{place}[{number}]", tolerance)
    elif not _equal(expected, found, tolerance):
        yield f"{place} is {_short(found)}, not {_short(expected)}"


def _equal(expected: Any, found: Any, tolerance: float) -> bool:
    numbers = (int, float)
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, float) and isinstance(found, numbers):
        return math.isclose(expected, found, rel_tol=tolerance, abs_tol=0.0)
    return bool(expected == found)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."
