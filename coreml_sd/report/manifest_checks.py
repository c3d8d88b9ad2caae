"""What a bundle tells of itself against its source and its config, and nothing left out.

What has to be there is worked out from the source and the config, never from the bundle: a bundle
cannot pass by holding less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msgspec import to_builtins

from coreml_sd.bundle import Bundle
from coreml_sd.conversion.facts import model_facts
from coreml_sd.conversion.promised import lacking
from coreml_sd.manifest.rules import is_inside
from coreml_sd.metrics import psnr_db
from coreml_sd.models.folder.tokenizer_files import MERGES_NAME, VOCAB_NAME
from coreml_sd.parity.checks import Check, ComponentParity, count_check
from coreml_sd.parity.told import told_check
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.registry import targets

BUNDLE = "bundle"
_TOKENIZER_FILES = (VOCAB_NAME, MERGES_NAME)
_PREVIEW_GATE = 60.0  # dB; its numbers are rounded to five places
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
    digest = bundle.manifest["model"]["sha256"]  # which was compared before
    model = to_builtins(model_facts(plan, digest))
    head = {"model": model, "config": plan.config.to_dict(), "notes": notes}
    found = {key: bundle.manifest[key] for key in head}
    checks = [
        _promised(plan, bundle),
        told_check("what generation is told", source.pipeline, told),
        _tokenizer_files(source, bundle),
        told_check("model, config and notes", head, found),
    ]
    for target in targets(plan.config.targets):
        checks += target.compare_further(plan, bundle)
    label = "read again from the source and the config"
    return ComponentParity(BUNDLE, "manifest", label, checks[0].name, tuple(checks))


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
    for target in targets(plan.config.targets):
        networks += target.further_files(plan).values()
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
