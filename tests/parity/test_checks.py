"""Checks: the worst of all inputs and outputs, nothing left out, and gates that can fail."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coreml_sd.parity.checks import Check, ComponentParity, decibels, figure
from coreml_sd.parity.coreml import peak_check
from coreml_sd.runtimes.mil.trace import LIMIT, NumericTrace

ONES = np.ones(4, np.float32)


def outputs(**noise: float) -> dict[str, np.ndarray]:
    """Ones, and `noise` added to the first number of each output."""
    return {name: ONES + np.array([value, 0, 0, 0], np.float32) for name, value in noise.items()}


def test_the_worst_output_counts() -> None:
    """1e-3 in one of four numbers is 66 dB."""
    check = decibels("x", [outputs(a=0, b=0)], [outputs(a=0, b=1e-3)], 80.0)
    assert not check.passed and round(check.value) == 66 and check.detail == "output b"
    assert decibels("x", [outputs(a=0, b=0)], [outputs(a=0, b=1e-3)], 60.0).passed


def test_the_worst_input_counts() -> None:
    expected = [outputs(a=0), outputs(a=0)]
    for found in ([outputs(a=0), outputs(a=1e-3)], [outputs(a=1e-3), outputs(a=0)]):
        assert round(decibels("x", expected, found, 80.0).value) == 66


@pytest.mark.parametrize(
    "found",
    [
        {"a": ONES},
        {"a": ONES, "b": ONES, "c": ONES},
        {"a": ONES, "b": ONES[:3]},
        {"a": ONES, "b": ONES.reshape(2, 2)},
        {"a": ONES, "b": np.array([1, 1, 1, np.nan], np.float32)},
        {},
    ],
    ids=["lacking", "strange", "shorter", "another shape", "NaN", "none"],
)
def test_an_output_that_is_not_as_promised_fails(found: dict[str, Any]) -> None:
    check = decibels("x", [outputs(a=0, b=0)], [found], 1.0)
    assert not check.passed and check.value == -np.inf


def test_fewer_outputs_may_be_promised() -> None:
    expected = [outputs(a=0, b=0)]
    assert decibels("x", expected, [outputs(a=0)], 80.0, ["a"]).passed
    assert not decibels("x", expected, [outputs(b=0)], 80.0, ["a"]).passed


def test_no_results_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="0 results for 0 inputs"):
        decibels("x", [], [], 80.0)
    with pytest.raises(ValueError, match="1 results for 2 inputs"):
        decibels("x", [outputs(a=0)] * 2, [outputs(a=0)], 80.0)


@pytest.mark.parametrize(("value", "passes"), [(LIMIT - 1, True), (LIMIT + 1, False)])
def test_a_peak_beyond_fp16_fails(value: float, passes: bool) -> None:
    import torch

    trace = NumericTrace()
    trace.record("mul_3", "mul", "mid.attn", torch.tensor([1.0, -value]))
    check = peak_check([SimpleNamespace(trace=trace), SimpleNamespace(trace=None)])  # type: ignore[list-item]
    assert check.passed == passes and check.value == value
    assert ("mul_3" in check.detail) != passes


def test_only_gates_make_a_proof() -> None:
    told = Check("x", 10.0, "dB", None, True)
    gated = Check("y", 90.0, "dB", 80.0, True)
    failed = Check("z", 70.0, "dB", 80.0, False)

    def passed(*checks: Check) -> bool:
        return ComponentParity("unet", "coreml", "", "", checks).passed

    assert passed(told, gated)
    assert not passed() and not passed(told) and not passed(gated, failed)


def test_figures_of_a_manifest_read_like_fresh_ones() -> None:
    assert figure("identical", "dB") == "identical"
    assert figure(61.234, "dB") == Check("x", 61.234, "dB", None, True).figure == "61.2 dB"
    assert figure(3, "") == "3"
