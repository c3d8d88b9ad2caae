"""docs/mobilediffusion.md says what the counter says, and the promises of the presets hold."""

import subprocess
import sys
from pathlib import Path

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.costs.ablation import Row, ablation, totals
from coreml_sd.models.open_model import open_model

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/mobilediffusion.md"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return ablation(open_model(ConversionConfig(model="md")))


def test_the_page_is_fresh() -> None:
    script = ROOT / "scripts/mobilediffusion_tables.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_first_row_is_stable_diffusion_by_the_same_counter(rows: list[Row]) -> None:
    assert rows[0].decision == "Stable Diffusion 1.5"
    assert rows[0].count.parameters == 859_520_964


def test_with_every_switch_back_only_the_latent_channels_differ(rows: list[Row]) -> None:
    """Four more channels into a 3x3 convolution, and four more out of one."""
    more = rows[1].count.parameters - rows[0].count.parameters
    assert more == 2 * 4 * 9 * 320 + 4


@pytest.mark.parametrize(
    ("preset", "denoiser", "macs", "whole"),
    [("md", 386e6, 182e9, 520e6), ("md-lite", 278e6, 153e9, None)],
)
def test_the_presets_have_the_papers_size(
    preset: str, denoiser: float, macs: float, whole: float | None
) -> None:
    parts = {part.component: part for part in totals(open_model(ConversionConfig(model=preset)))}
    assert parts["unet"].parameters == pytest.approx(denoiser, rel=0.03)
    assert parts["unet"].macs == pytest.approx(macs, rel=0.03)
    assert parts["vae_decoder"].parameters == pytest.approx(9.8e6, rel=0.03)
    if whole is not None:
        assert sum(part.parameters for part in parts.values()) == pytest.approx(whole, rel=0.03)


def test_what_agrees_with_the_paper_and_what_does_not(rows: list[Row]) -> None:
    """In points of the change of parameters; the page says why."""
    apart = {
        row.decision[:4]: round(100 * row.difference, 1)
        for row in rows
        if row.network == "unet" and row.difference is not None
    }
    assert apart == {
        "T3.1": -21.2, "T3.3": -0.1, "T3.4": 0.0, "T3.5": 0.0, "T3.6": 0.4, "T3.7": -14.2,
        "T3.8": 5.2,
    }  # fmt: skip


def test_no_decision_but_one_makes_the_network_larger(rows: list[Row]) -> None:
    unet = [row for row in rows if row.network == "unet"][2:]
    assert all(row.change is not None and row.change <= 0 for row in unet)
    assert [row.decision[:4] for row in unet if (row.macs_change or 0) > 0] == ["T3.1"]
