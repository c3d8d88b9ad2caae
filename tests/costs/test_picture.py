"""What a picture costs is the sum of what its components cost."""

import dataclasses
from pathlib import Path

import pytest

from coreml_sd.bundle import open_bundle
from coreml_sd.costs.picture import PartCosts, picture_costs
from coreml_sd.targets.saved_files import bundle_picture_costs

PARTS = {
    "text_encoder": PartCosts(10, weight_bytes=200, activation_bytes=5, batch=1),
    "unet": PartCosts(100, weight_bytes=700, activation_bytes=40, batch=2),
    "vae_decoder": PartCosts(50, weight_bytes=60, activation_bytes=90, batch=1),
    "vae_encoder": PartCosts(10**6, weight_bytes=10**6, activation_bytes=10**6, batch=1),
}


def test_the_unet_runs_each_step_and_the_others_once() -> None:
    """The text encoder for both prompts, because the UNet has rows for two."""
    macs = {costs.steps: costs.macs for costs in picture_costs(PARTS)}
    assert macs == {1: 2 * 10 + 100 + 50, 8: 2 * 10 + 800 + 50, 20: 2 * 10 + 2000 + 50}


def test_without_guidance_one_prompt_is_encoded() -> None:
    single = {**PARTS, "unet": dataclasses.replace(PARTS["unet"], batch=1)}
    assert picture_costs(single)[0].macs == 10 + 100 + 50


def test_a_second_encoder_counts_too() -> None:
    two = {**PARTS, "text_encoder_2": PARTS["text_encoder"]}
    assert picture_costs(two)[0].macs == picture_costs(PARTS)[0].macs + 20


def test_the_peak_does_not_depend_on_the_steps() -> None:
    assert {costs.resident_bytes for costs in picture_costs(PARTS)} == {200 + 700 + 60 + 90}
    assert {costs.staged_bytes for costs in picture_costs(PARTS)} == {700 + 40}


@pytest.mark.parametrize("missing", ["text_encoder", "unet", "vae_decoder"])
def test_without_a_component_there_is_no_picture(missing: str) -> None:
    assert picture_costs({name: part for name, part in PARTS.items() if name != missing}) == []


def test_a_bundle_is_counted_in_its_files(sd1_bundle: Path) -> None:
    one, eight, twenty = bundle_picture_costs(open_bundle(sd1_bundle), "coreml")
    assert twenty.macs - eight.macs == 12 * (eight.macs - one.macs) // 7 > 0
    assert one.staged_bytes < one.resident_bytes
