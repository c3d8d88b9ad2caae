"""Checks: the worst of all inputs and outputs, nothing left out, and gates that can fail."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coreml_sd.metrics import psnr_db
from coreml_sd.parity import checks as gates
from coreml_sd.parity.checks import Check, ComponentParity, count_check, decibels, figure
from coreml_sd.runtimes.mil.trace import LIMIT, NumericTrace
from coreml_sd.targets.coreml import proof as coreml
from coreml_sd.targets.coreml.proof import peak_check

DOCS = Path(__file__).parents[2] / "docs/parity.md"
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


def trace(*values: float) -> Any:
    """A network whose ops gave these."""
    import torch

    found = NumericTrace()
    for number, value in enumerate(values):
        found.record(f"op_{number}", "mul", "mid", torch.tensor([value]))
    return SimpleNamespace(trace=found)


@pytest.mark.parametrize("chunks", [(LIMIT + 1, 1.0), (1.0, LIMIT + 1)])
def test_the_peak_of_every_chunk_counts(chunks: tuple[float, float]) -> None:
    check = peak_check([trace(value, 2.0) for value in chunks])
    assert not check.passed and check.value == LIMIT + 1 and "op_0" in check.detail


def test_one_is_too_many() -> None:
    assert count_check("x", 0).passed and not count_check("x", 1).passed


@pytest.mark.parametrize("palettes", [None, SimpleNamespace(spec=SimpleNamespace(bits=6))])
def test_every_figure_has_its_own_two_sides(palettes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five results, each at another distance from each other."""
    exact, mobile, same, fp32, fp16 = (
        [outputs(a=noise)] * len(gates.SEEDS) for noise in (0, 1e-5, 2e-2, 2.01e-2, 2.3e-2)
    )
    runs = {"fp32": (fp32, []), "fp16": (fp16, [trace(1.0)])}
    monkeypatch.setattr(coreml, "_expected", lambda *_: (exact, mobile, same))
    monkeypatch.setattr(coreml, "_evaluate", lambda component, paths, mode, inputs: runs[mode])
    component: Any = SimpleNamespace(name="unet", sample_inputs=lambda seed: {})
    nothing: Any = None
    result = coreml.component_parity(component, nothing, nothing, palettes, [])
    pairs = ((exact, mobile), (same, fp32), (same, fp16), (exact, fp16))
    expected = [psnr_db(one[0]["a"], other[0]["a"]) for one, other in pairs]
    assert [check.value for check in result.checks[:4]] == expected
    to_source = None if palettes else gates.GATE_FP16
    reached = [gates.GATE_MOBILE, gates.GATE_FILE, gates.GATE_FP16, to_source, LIMIT]
    assert [check.gate_value for check in result.checks] == reached


def test_the_gates_are_those_of_the_docs() -> None:
    lines = [line.split("|") for line in DOCS.read_text("utf-8").splitlines() if line[:1] == "|"]
    rows = {cells[1].strip(): cells[2].strip() for cells in lines}
    for name, gate in (
        ("mobile form against diffusers' pipeline, fp32", gates.GATE_MOBILE),
        (
            "file in fp32 against torch with the weights of the file (fp16-rounded or palettized)",
            gates.GATE_FILE,
        ),
        ("file in fp16 against the same", gates.GATE_FP16),
        ("file before quantization against torch (while converting)", gates.GATE_TFLITE),
        ("the same, dynamic int8", gates.GATE_DYNAMIC),
    ):
        assert rows[name] == f">= {gate:.0f} dB"
    assert len({*gates.SEEDS}) == 2  # inputs that each figure is the worst of


def test_the_limit_lies_below_the_end_of_fp16() -> None:
    assert f"| largest intermediate in fp16 | < {LIMIT:,.0f} |" in DOCS.read_text("utf-8")
    assert np.isfinite(np.float16(1.05 * LIMIT)) and np.isinf(np.float16(1.1 * LIMIT))
