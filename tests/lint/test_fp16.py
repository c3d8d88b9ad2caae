"""How far stored values reach."""

import numpy as np
import pytest

from coreml_sd.lint.fp16 import peak


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, -3.0, 2.0], 3.0),
        ([-0.0], 0.0),
        ([], 0.0),
        ([1.0, -np.inf], np.inf),
        ([np.inf, np.nan, 1.0], np.nan),
        ([-np.nan], np.nan),
    ],
)
def test_the_peak_is_the_largest_magnitude(dtype: type, values: list, expected: float) -> None:
    assert peak(np.array(values, dtype)) == pytest.approx(expected, nan_ok=True)


def test_scalars_and_views_have_a_peak() -> None:
    assert peak(np.array(-2.5, np.float32)) == 2.5
    assert peak(np.arange(12, dtype=np.float16).reshape(3, 4).T) == 11
