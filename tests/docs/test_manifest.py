"""docs/manifest.md names every key that a conversion writes, and nothing that it does not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from coreml_sd.bundle import open_bundle

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "manifest.md"
FIXTURE = ROOT / "tests" / "fixtures" / "manifest-demo.json"

# Tables whose keys are names, with what stands for one, and tables that other pages or libraries
# describe.
NAMED = {
    "components": "<name>",
    "files": "<name>",
    "components.<name>.parity": "<name>",
    "pipeline.denoiser.conditions": "<input>",
}
WHOLE = {
    "tool.packages",
    "config",
    "pipeline.scheduler",
    "pipeline.few_steps[].denoiser",
    "pipeline.tokenizer.added_tokens",
    "pipeline.tokenizer_2.added_tokens",
    "components.<name>.ops",
    "components.<name>.splits",
    "components.<name>.pruning",
    "components.<name>.rescaling",
    "scheduler_step.checks",
    "source_parity.checks",
}
# Of conversions that this test does not do.
ELSEWHERE = {
    "pipeline.tokenizer.added_tokens",
    "pipeline.tokenizer_2.added_tokens",
    "pipeline.denoiser.conditions.<input>.width",
    "pipeline.few_steps[].steps",
    "pipeline.few_steps[].denoiser",
    "components.<name>.pruning",
    "components.<name>.rescaling",
    "scheduler_step.checks",
}


def keys_of(value: Any, path: str = "") -> set[str]:
    """Dotted paths of everything that is not a table of its own."""
    if path in WHOLE:
        return {path}
    if isinstance(value, dict) and (value or path in NAMED):
        names = [NAMED[path] for _ in value] if path in NAMED else list(value)
        parts = [
            keys_of(inner, f"{path}.{name}".lstrip("."))
            for name, inner in zip(names, value.values(), strict=True)
        ]
        return set().union(*parts)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return set().union(*(keys_of(item, f"{path}[]") for item in value))
    return {path}


def documented(page: str) -> dict[str, str]:
    """Keys in the first column of the page's tables, each with its whole line."""
    return {m[1]: m[0] for m in re.finditer(r"^\| `([^`]+)` \|.*$", page, re.MULTILINE)}


def undocumented(manifest: dict[str, Any], page: str) -> set[str]:
    """Keys that are written and not in a table; empty lists stand for what they would hold."""
    known = documented(page)
    empty = {re.sub(r"\[\].*", "", key) for key in known if "[]" in key}
    deeper = {key.rsplit("[]", 1)[0] for key in known if "[]" in key}
    return keys_of(manifest) - known.keys() - empty - deeper


@pytest.fixture(scope="module")
def fixture() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(FIXTURE.read_text(encoding="utf-8"))
    return manifest


def test_every_key_of_a_fresh_bundle_is_documented(sd1_bundle: Path) -> None:
    manifest = open_bundle(sd1_bundle).manifest
    page = PAGE.read_text(encoding="utf-8")
    assert undocumented(manifest, page) == set()
    for key in ("pipeline.batch", "components.<name>.files[].weight_bytes", "files.<name>.bytes"):
        line = documented(page)[key] + "\n"
        assert undocumented(manifest, page.replace(line, "")) == {key}


def test_every_key_of_the_fixture_is_documented(fixture: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert undocumented(fixture, page) == set()
    fixture["pipeline"]["colour"] = "blue"
    assert undocumented(fixture, page) == {"pipeline.colour"}
    del fixture["pipeline"]["colour"]
    conditions = fixture["pipeline"]["denoiser"]["conditions"]
    conditions["hue"] = {"kind": "size", "shade": 1}
    assert undocumented(fixture, page) == {"pipeline.denoiser.conditions.<input>.shade"}
    del conditions["hue"]


def test_every_key_of_an_xl_bundle_is_documented(xl_bundle: Path) -> None:
    assert undocumented(open_bundle(xl_bundle).manifest, PAGE.read_text(encoding="utf-8")) == set()


def test_every_key_of_a_bundle_for_few_steps_is_documented(few_step_bundle: Path) -> None:
    manifest, page = open_bundle(few_step_bundle).manifest, PAGE.read_text(encoding="utf-8")
    assert undocumented(manifest, page) == set()
    keys = {"pipeline.few_steps[].steps", "pipeline.few_steps[].denoiser"}
    assert keys <= keys_of(manifest) & documented(page).keys()


def test_every_documented_key_is_written(
    sd1_bundle: Path, xl_bundle: Path, fixture: dict[str, Any]
) -> None:
    bundles = (open_bundle(path).manifest for path in (sd1_bundle, xl_bundle))
    written = keys_of(fixture).union(*map(keys_of, bundles))
    rows = documented(PAGE.read_text(encoding="utf-8"))
    later = {key for key, line in rows.items() if "not written yet" in line}
    assert later & written == set()
    assert rows.keys() - later - written == ELSEWHERE - written


def test_the_fixture_that_swift_reads_is_of_todays_form(
    sd1_bundle: Path, xl_bundle: Path, fixture: dict[str, Any]
) -> None:
    """All keys that Swift reads are in both, with values of the same type."""
    fresh = open_bundle(sd1_bundle).manifest
    rows = documented(PAGE.read_text(encoding="utf-8"))
    read = {key for key, line in rows.items() if line.endswith("| Swift |")}
    xl_only = keys_of(open_bundle(xl_bundle).manifest) - keys_of(fresh)
    assert read - xl_only <= keys_of(fresh) and read - xl_only <= keys_of(fixture)
    assert fixture["manifest_version"] == fresh["manifest_version"]
    for key, value in fresh["pipeline"].items():
        assert type(fixture["pipeline"][key]) is type(value), key
