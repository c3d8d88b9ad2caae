"""A conversion is finished when all that its config promises is there."""

import copy
from pathlib import Path
from typing import Any

import pytest

from coreml_sd.bundle import open_bundle
from coreml_sd.config import from_dict
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.conversion.promised import lacking, require_whole
from coreml_sd.errors import CoremlSDError
from coreml_sd.targets.plan import Plan

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")


@pytest.fixture
def manifest(both_bundle: Path) -> dict[str, Any]:
    return copy.deepcopy(open_bundle(both_bundle, check=False).manifest)


@pytest.fixture
def plan(manifest: dict[str, Any]) -> Plan:
    return plan_conversion(from_dict(manifest["config"], "manifest.json"))


def test_a_whole_bundle_lacks_nothing(plan: Plan, manifest: dict[str, Any]) -> None:
    assert list(lacking(plan, manifest)) == []
    require_whole(plan, manifest)


@pytest.mark.parametrize(
    "name",
    ["vocab.json", "merges.txt", "SchedulerStep.tflite", "VAEDecoder.tflite"],
)
def test_a_file_that_went_away_is_named(plan: Plan, manifest: dict[str, Any], name: str) -> None:
    del manifest["files"][name]
    with pytest.raises(CoremlSDError, match=rf"lacks {name}"):
        require_whole(plan, manifest)


def test_a_network_that_is_not_there_is_named(plan: Plan, manifest: dict[str, Any]) -> None:
    unet = manifest["components"]["unet"]
    unet["files"] = [file for file in unet["files"] if file["target"] == "tflite"]
    del manifest["components"]["vae_encoder"], manifest["scheduler_step"]
    assert list(lacking(plan, manifest)) == ["scheduler_step", "unet for coreml", "vae_encoder"]
