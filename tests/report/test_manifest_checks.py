"""What a bundle tells of itself is held against the source and the config: each change is seen."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from coreml_sd.bundle import Bundle, open_bundle, write_manifest
from coreml_sd.config import from_dict
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.parity.checks import Check, ComponentParity
from coreml_sd.parity.told import told_check
from coreml_sd.report.manifest_checks import manifest_parity, preview_check, unchecked
from coreml_sd.report.parity_report import ParityReport
from coreml_sd.report.source_bundle import source_bundle
from coreml_sd.targets.plan import Plan

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def plan(both_bundle: Path) -> Plan:
    manifest = open_bundle(both_bundle, check=False).manifest
    return plan_conversion(from_dict(manifest["config"], "manifest.json"))


@pytest.fixture
def copy(both_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(both_bundle, tmp_path / "copy.bundle"))


def changed(path: Path, change: Change) -> Bundle:
    """The bundle with another manifest, signed again, as its reader opens it."""
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    change(manifest)
    write_manifest(path, manifest)
    return open_bundle(path)


def compared(plan: Plan, bundle: Bundle) -> ComponentParity:
    with source_bundle(plan) as source:
        return manifest_parity(plan, bundle, source, list(plan.notes))


def failed(plan: Plan, bundle: Bundle) -> str:
    result = compared(plan, bundle)
    wrong = [check for check in result.checks if not check.passed]
    assert result.passed == (not wrong)
    return "; ".join(f"{check.name} ({check.detail})" for check in wrong)


def test_an_intact_bundle_differs_in_nothing(plan: Plan, both_bundle: Path) -> None:
    bundle = open_bundle(both_bundle)
    assert failed(plan, bundle) == ""
    assert unchecked(plan, bundle) == ("tool", "source_parity")


def put(value: Any, *place: str) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        holder = manifest
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = value

    return change


def drop(*place: str) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        holder = manifest
        for key in place[:-1]:
            holder = holder[key]
        del holder[place[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (put(0.5, "pipeline", "scaling_factor"), "scaling_factor is 0.5"),
        (put(0.1, "pipeline", "shift_factor"), "shift_factor is 0.1"),
        (put(0.01, "pipeline", "scheduler", "beta_end"), "scheduler.beta_end is 0.01"),
        (put("sample", "pipeline", "prediction_type"), "prediction_type"),
        (put(7, "pipeline", "tokenizer", "eos_token_id"), "tokenizer.eos_token_id is 7"),
        (put(21, "pipeline", "advice", "steps"), "advice.steps is 21"),
        (put(["a dog"], "pipeline", "advice", "prompts"), "advice.prompts"),
        (drop("components", "vae_encoder"), "missing or strange (vae_encoder)"),
        (drop("scheduler_step"), "missing or strange (scheduler_step)"),
        (put(2, "scheduler_step", "memory", "latents"), "memory.latents is 2"),
        (put("other", "model", "config_digest"), "model.config_digest"),
        (put("Nobody", "model", "author"), "model.author"),
        (put(["all is well"], "notes"), "notes"),
        (lambda m: m["config"]["coreml"].update(min_os="iOS17") or m["components"].update(
            extra=m["components"]["unet"]), "extra, which was not asked for"),
    ],
)  # fmt: skip
def test_a_changed_fact_is_told(plan: Plan, copy: Path, change: Change, told: str) -> None:
    assert told in failed(plan, changed(copy, change))


def test_another_vocabulary_is_told(plan: Plan, copy: Path) -> None:
    words = json.loads((copy / "vocab.json").read_text("utf-8"))
    first, second = list(words)[:2]
    words[first], words[second] = words[second], words[first]
    (copy / "vocab.json").write_text(json.dumps(words), "utf-8")
    assert "files of the tokenizer" in failed(plan, changed(copy, lambda _: None))


def test_another_scheduler_step_is_told(plan: Plan, copy: Path) -> None:
    """One float of its program, so that it runs as before."""
    path = copy / "SchedulerStep.tflite"
    content = bytearray(path.read_bytes())
    before = compared(plan, open_bundle(copy))
    assert before.passed
    wrong = shutil.copy(_other_step(copy), path)
    assert wrong and content != path.read_bytes()
    assert "scheduler step: file against torch" in failed(plan, changed(copy, lambda _: None))


def _other_step(folder: Path) -> Path:
    """A step of the same form that forgets a part of the sum."""
    import torch

    from coreml_sd.models.open_model import open_model
    from coreml_sd.targets.tflite.export import export_tflite
    from coreml_sd.targets.tflite.scheduler_step import scheduler_step, scheduler_step_inputs

    config = from_dict(json.loads((folder / "manifest.json").read_text("utf-8"))["config"], "x")
    unet = open_model(config).component("unet")
    network = scheduler_step(unet)
    forward = network.steps[-1].module.forward

    def wrong(*given: Any) -> Any:
        result = forward(*given)
        return tuple(2 * each for each in result) if isinstance(result, tuple) else 2 * result

    network.steps[-1].module.forward = wrong
    path = folder.parent / "other.tflite"
    with torch.inference_mode():
        export_tflite(path, "scheduler_step", network, scheduler_step_inputs(unet))
    return path


def test_a_file_that_nothing_looks_at_is_told(plan: Plan, copy: Path) -> None:
    (copy / "notes.txt").write_text("x")
    bundle = changed(copy, put({"x": 1}, "novelty"))
    assert unchecked(plan, bundle) == ("tool", "source_parity", "novelty", "notes.txt")
    assert failed(plan, bundle) == ""


def test_measured_figures_may_differ_a_little_and_no_others() -> None:
    def passes(expected: Any, found: Any, *, measured: bool = False) -> bool:
        return told_check("x", {"a": expected}, {"a": found}, measured=measured).passed

    assert passes(1.0, 1.0005, measured=True) and not passes(1.0, 1.0005)
    assert not passes(1.0, 1.01, measured=True)
    assert not passes(1000, 1001, measured=True) and not passes(True, 1)
    assert not passes([1, 2], [1]) and not passes(None, 0)
    assert passes((1, 2), [1, 2])


def test_a_preview_of_another_model_is_told(both_bundle: Path) -> None:
    facts = open_bundle(both_bundle, check=False).pipeline["preview"]
    assert preview_check(facts, facts).passed
    other = {**facts, "bias": [b + 0.01 for b in facts["bias"]]}
    assert not preview_check(facts, other).passed
    assert not preview_check(facts, {**facts, "weights": facts["weights"][1:]}).passed
    assert not preview_check(facts, None).passed


def test_a_report_that_compared_nothing_does_not_pass() -> None:
    empty = ComponentParity("unet", "coreml", "", "", ())
    assert not empty.passed
    told = told_check("x", {}, {})
    assert dataclasses.replace(empty, checks=(told,)).passed


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1.0}, {"a": 1.5}),
        ({"a": "x"}, {"a": "y"}),
        ({"a": "x"}, {"a": None}),
        ({"a": True}, {"a": 1}),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}),
        ({"a": {"b": 1}}, {"a": {}}),
        ({"a": {}}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": [1]}),
    ],
)
def test_what_is_told_is_compared_value_by_value(expected: Any, found: Any) -> None:
    assert told_check("x", expected, expected).passed
    assert not told_check("x", expected, found).passed


def test_a_failed_manifest_fails_the_report() -> None:
    def parity(passed: bool) -> ComponentParity:
        check = Check("x", 0, "", 1, passed)
        return ComponentParity("unet", "coreml", "", "", (check,))

    nothing: Any = None
    good, bad = parity(True), parity(False)
    whole = ParityReport(nothing, (), (good,), (), pipeline=good, manifest=good)
    assert whole.passed
    changes: list[dict[str, Any]]
    changes = [{"manifest": bad}, {"pipeline": bad}, {"components": (good, bad)}]
    for broken in changes:
        assert not dataclasses.replace(whole, **broken).passed
    assert not dataclasses.replace(whole, components=()).passed
