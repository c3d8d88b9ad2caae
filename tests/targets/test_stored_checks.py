"""Stored weights are compared bit for bit: what no dB gate sees is seen here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coreml_sd.bundle import open_bundle
from coreml_sd.compress.palettization import palettize_module
from coreml_sd.compress.source_network import load_source
from coreml_sd.config import from_dict
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.mobile import mobile_form
from coreml_sd.mobile.layer_weights import layer_weights
from coreml_sd.targets.coreml.settings import mobile_options
from coreml_sd.targets.coreml.stored_checks import _decided, stored_weights_check
from tests.helpers.weight_records import FLOAT16, UINT8, one_bit

_PALETTE_BYTES = 2 * 64


@pytest.fixture(scope="module", params=["sd1_bundle", "sd1_fp16_bundle"])
def decided(request: pytest.FixtureRequest) -> Any:
    """A bundle's decoder: its package, its mobile form, and the palettes solved again."""
    path: Path = request.getfixturevalue(request.param)
    plan = plan_conversion(from_dict(open_bundle(path).manifest["config"], "manifest.json"))
    component = plan.model.component("vae_decoder")
    mobile = mobile_form(component.form, load_source(component, None).network, mobile_options(plan))
    palettes = palettize_module(mobile, plan.palettes) if plan.palettes else None
    return path / "VAEDecoder.mlpackage", mobile, palettes


def test_an_intact_package_holds_what_was_decided(decided: Any) -> None:
    package, mobile, palettes = decided
    assert stored_weights_check([package], mobile, palettes).passed


def test_one_unit_in_the_last_place_is_seen(decided: Any, tmp_path: Path) -> None:
    package, mobile, palettes = decided
    size = _PALETTE_BYTES if palettes else None
    wrong = one_bit(package, tmp_path, FLOAT16, size)
    check = stored_weights_check([wrong], mobile, palettes)
    assert not check.passed and "is not stored as it was decided" in check.detail


@pytest.mark.parametrize("decided", ["sd1_bundle"], indirect=True)
def test_one_index_is_seen(decided: Any, tmp_path: Path) -> None:
    package, mobile, palettes = decided
    wrong = one_bit(package, tmp_path, UINT8, None)
    assert not stored_weights_check([wrong], mobile, palettes).passed


def test_no_files_hold_nothing(decided: Any) -> None:
    _, mobile, palettes = decided
    assert not stored_weights_check([], mobile, palettes).passed


@pytest.mark.parametrize("decided", ["sd1_bundle"], indirect=True)
def test_a_palette_that_was_not_decided_is_seen(decided: Any) -> None:
    package, mobile, palettes = decided
    strange = package.with_name("TextEncoder.mlpackage")
    assert not stored_weights_check([package, strange], mobile, palettes).passed


def test_no_weight_but_the_smallest_is_left_out(decided: Any) -> None:
    _, mobile, palettes = decided
    sizes = [weight.numel() for weight in layer_weights(mobile).values()]
    assert len(list(_decided(mobile, palettes))) == sum(size >= 10 for size in sizes)
