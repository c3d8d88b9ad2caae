"""No argument leads compiled code out of its arrays: each loop refuses it before it begins."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coreml_sd.compress import bits as packing
from coreml_sd.compress import compiled, histogram, intervals, palette
from coreml_sd.compress.bits import count_wrong_indices, pack_looked_up
from coreml_sd.compress.intervals import cheapest_by_layers, cheapest_by_price
from coreml_sd.errors import UserError
from coreml_sd.runtimes.mil import unpacking
from coreml_sd.runtimes.mil.unpacking import look_up, unpack, width_of

TABLE = np.zeros(1 << 16, np.uint8)
PATTERNS = np.zeros(100, np.uint16)
WIDE: Any = PATTERNS.astype(np.uint32) + (1 << 30)
SUMS = np.zeros((101, 3))


def filled(count: int, dtype: type[np.generic] = np.uint8) -> np.ndarray:
    return np.zeros(count, dtype)


WRONG: dict[str, Callable[[], Any]] = {
    "expand: few bytes": lambda: unpacking._expand(filled(2), 4, filled(16), filled(6), 0, 1),
    "expand: no width": lambda: unpacking._expand(filled(3), 0, filled(1), filled(6), 0, 1),
    "expand: five bits": lambda: unpacking._expand(filled(3), 5, filled(32), filled(4), 0, 1),
    "expand: small table": lambda: unpacking._expand(filled(3), 4, filled(15), filled(6), 0, 1),
    "expand: few places": lambda: unpacking._expand(filled(3), 4, filled(16), filled(5), 0, 1),
    "expand: before": lambda: unpacking._expand(filled(3), 4, filled(16), filled(6), -9, 1),
    "wrong: few bytes": lambda: count_wrong_indices(filled(74), 6, PATTERNS, TABLE),
    "wrong: no width": lambda: count_wrong_indices(filled(400), 9, PATTERNS, TABLE),
    "wrong: small table": lambda: count_wrong_indices(filled(75), 6, PATTERNS, TABLE[1:]),
    "wrong: wide patterns": lambda: count_wrong_indices(filled(75), 6, WIDE, TABLE),
    "pack: few bytes": lambda: pack_looked_up(PATTERNS, TABLE, 6, filled(75), 1),
    "pack: before": lambda: pack_looked_up(PATTERNS, TABLE, 6, filled(75), -1),
    "pack: no width": lambda: pack_looked_up(PATTERNS, TABLE, 40, filled(9000), 0),
    "pack: wide patterns": lambda: pack_looked_up(WIDE, TABLE, 6, filled(75), 0),
    "look up: small table": lambda: palette._look_up(PATTERNS, TABLE[1:], filled(100)),
    "look up: few places": lambda: palette._look_up(PATTERNS, TABLE, filled(99)),
    "look up: wide patterns": lambda: palette._look_up(WIDE, TABLE, filled(100)),
    "count: wide patterns": lambda: histogram._count_patterns(WIDE),
    "count: two axes": lambda: histogram._count_patterns(PATTERNS.reshape(10, 10)),
    "search: two columns": lambda: intervals._search(SUMS[:, :2], 2, 1.0),
    "search: none": lambda: cheapest_by_price(SUMS, 101, 1.0),
    "layers: more than values": lambda: cheapest_by_layers(SUMS, 101),
    "layers: none": lambda: cheapest_by_layers(SUMS, 0),
    "layers: nothing": lambda: cheapest_by_layers(SUMS[:0], 1),
    "layers: too many": lambda: cheapest_by_layers(np.zeros((70_000, 3)), 2),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_leads_out_of_an_array_is_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"needed|bits|cannot|intervals|sums"):
        call()


@pytest.mark.parametrize("bits", [0, 5, 7, 9, 12, 16])
def test_a_palette_of_a_width_that_does_not_exist_is_refused(bits: int) -> None:
    """Enough bytes and a table that fits: only the width is wrong."""
    with pytest.raises(UserError, match=f"indices of {bits} bits"):
        look_up(filled(4096), bits, 1000, filled(1 << bits, np.float16))
    with pytest.raises(UserError, match=f"indices of {bits} bits"):
        unpack(filled(4096), bits, 1000)


@pytest.mark.parametrize("entries", [0, 1, 3, 32, 128, 512, 1 << 16])
def test_a_table_that_no_width_fills_is_refused(entries: int) -> None:
    with pytest.raises(UserError, match=f"palette of {entries} entries"):
        width_of(entries)


def test_indices_need_bytes_that_are_there() -> None:
    for packed, count in ((filled(99), 100), (filled(100), -1), (filled(200, np.int8), 100)):
        with pytest.raises(UserError, match="needed"):
            unpack(packed, 8, count)


def test_every_loop_that_python_calls_is_checked() -> None:
    """Negative control of the list above: a loop without a check is one that only loops call."""
    inner = {"_cheapest", "_first_better", "_better", "_cost"}
    for module in (packing, histogram, palette, intervals, unpacking):
        bare = {name for name, value in vars(module).items() if hasattr(value, "py_func")}
        assert bare <= inner
    assert hasattr(compiled.compiled(lambda: 0), "py_func")
