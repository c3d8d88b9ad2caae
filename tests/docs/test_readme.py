"""The README's table of what is supported, and docs/config.md, say what the code says."""

import dataclasses
from pathlib import Path
from typing import Any

from coreml_sd import config
from coreml_sd.models.open_model import FAMILIES
from coreml_sd.runtimes.open_runtime import RUNTIMES
from coreml_sd.schedulers.schedulers import NAMES

ROOT = Path(__file__).parents[2]


def listed(items: Any) -> str:
    return ", ".join(str(item) for item in items)


def supported_table() -> str:
    rows = {
        "targets": listed(config.TARGETS),
        "pipelines": listed(name for family in FAMILIES for name in family.pipeline_classes),
        "single files": listed(config.CHECKPOINTS),
        "components": listed(config.COMPONENTS),
        "attention": listed(config.ATTENTIONS),
        "palettes, bits": listed(config.BITS),
        "palettes, granularity": listed(config.GRANULARITIES),
        "oldest system": listed(config.MIN_OS),
        "Android profiles": listed(config.ANDROID_PROFILES),
        "TFLite weights": listed(config.QUANTIZATIONS),
        "runtimes": listed(name for name in RUNTIMES if name != "auto"),
        "schedulers": listed(NAMES),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])


def test_the_readme_lists_what_is_supported() -> None:
    assert supported_table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_knob_is_documented() -> None:
    text = (ROOT / "docs/config.md").read_text(encoding="utf-8")
    for knob in dataclasses.fields(config.ConversionConfig):
        assert f"`{knob.name}`" in text
        assert knob.metadata["help"].rstrip(".") in text
