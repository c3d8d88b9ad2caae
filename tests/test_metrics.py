"""The one dB measure."""

import math

import numpy as np
import pytest

from coreml_sd.metrics import psnr_db


def test_a_known_error_has_its_known_figure() -> None:
    reference = np.array([10.0, 0.0, 0.0, 0.0])
    assert psnr_db(reference, reference + 0.1) == pytest.approx(40.0)


def test_equal_tensors_are_infinitely_close() -> None:
    assert psnr_db([1.0, 2.0], [1.0, 2.0]) == math.inf


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_broken_value_passes_no_gate(broken: float) -> None:
    assert psnr_db([1.0, 2.0], [1.0, broken]) == -math.inf


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        psnr_db([1.0], [1.0, 2.0])


def test_the_peak_is_the_references() -> None:
    """10 against 100 in one of four numbers: an error of 45 against a peak of 10."""
    reference, value = [10.0, 0.0, 0.0, 0.0], [100.0, 0.0, 0.0, 0.0]
    assert psnr_db(reference, value) == pytest.approx(20 * math.log10(10 / 45))
    assert psnr_db([0.0], [1.0]) == -math.inf


def test_a_broken_reference_passes_no_gate() -> None:
    assert psnr_db([1.0, math.nan], [1.0, math.nan]) == -math.inf
