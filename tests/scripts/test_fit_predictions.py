"""Rates are found again in what was measured, and stay where nothing was."""

from typing import Any

import pytest

from coreml_sd.conversion.prediction import Work, rates
from scripts.fit_predictions import Row, fit

SIZES = ((1.0, 0.006, 0.001), (1.0, 0.86, 0.43), (1.0, 0.86, 1.72))


def rows(seconds: tuple[float, ...], memory: tuple[float, ...]) -> list[Row]:
    """Exactly what such rates give."""

    def taken(known: tuple[float, ...], sizes: tuple[float, ...]) -> float:
        return sum(rate * size for rate, size in zip(known, sizes, strict=True))

    works = [Work("unet", "coreml-verify", 0.0, role="denoiser", sizes=each) for each in SIZES]
    return [(work, taken(seconds, work.sizes), taken(memory, work.sizes)) for work in works]


def fitted(found: dict[str, Any], quantity: str) -> list[float]:
    return list(found[quantity]["coreml-verify"]["denoiser"])


def test_known_rates_are_found_again() -> None:
    found = fit(rows((20.0, 600.0, 400.0), (1.2e9, 3e9, 0.5e9)))
    assert fitted(found, "seconds") == pytest.approx([20.0, 600.0, 400.0], rel=1e-3)
    assert fitted(found, "memory") == pytest.approx([1.2e9, 3e9, 0.5e9], rel=1e-3)


def test_no_rate_is_below_zero() -> None:
    found = fit(rows((20.0, -2.0, 400.0), (1.2e9, 3e9, -1e8)))
    assert min(fitted(found, "seconds") + fitted(found, "memory")) == 0
    assert fitted(found, "seconds")[2] == pytest.approx(400, rel=0.05)


def test_a_small_model_alone_says_nothing_of_large_ones() -> None:
    assert fitted(fit(rows((20.0, 0, 0), (1e9, 0, 0))[:1]), "seconds") == [20.0, 0.0, 0.0]


def test_what_was_not_measured_keeps_its_rates() -> None:
    found = fit(rows((20.0, 600.0, 400.0), (1.2e9, 3e9, 0.5e9)))
    changed = {"seconds", "memory"}
    assert {key: found[key] for key in found if key not in changed} == {
        key: value for key, value in rates().items() if key not in changed
    }
    for quantity in changed:
        del found[quantity]["coreml-verify"]["denoiser"]
        kept = {kind: dict(roles) for kind, roles in rates()[quantity].items()}
        del kept["coreml-verify"]["denoiser"]
        assert found[quantity] == kept
