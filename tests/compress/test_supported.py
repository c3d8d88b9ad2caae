"""What can be asked for is refused early, with the reason and the remedy."""

import subprocess
import sys

import pytest

from coreml_sd.compress.supported import PALETTE_BITS, PaletteSpec, require_supported
from coreml_sd.errors import UserError


@pytest.mark.parametrize("min_os", ["iOS16", "iOS17", "iOS18"])
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_per_tensor_palettes_work_from_ios16(bits: int, min_os: str) -> None:
    require_supported(bits, "per-tensor", min_os)


@pytest.mark.parametrize("granularity", ["per-tensor", "per-grouped-channel"])
@pytest.mark.parametrize("bits", PALETTE_BITS)
def test_ios18_takes_everything(bits: int, granularity: str) -> None:
    require_supported(bits, granularity, "iOS18")


@pytest.mark.parametrize("min_os", ["iOS16", "iOS17"])
def test_three_bits_need_ios18_and_the_message_says_what_to_do(min_os: str) -> None:
    with pytest.raises(UserError) as refusal:
        require_supported(3, "per-tensor", min_os)
    message = "3-bit palettes need iOS18: add --min-os iOS18 or choose 2, 4"
    assert str(refusal.value) == message


@pytest.mark.parametrize("min_os", ["iOS16", "iOS17"])
def test_groups_need_ios18_and_the_message_says_what_to_do(min_os: str) -> None:
    with pytest.raises(UserError, match="need iOS18: add --min-os iOS18 or choose --granularity"):
        require_supported(4, "per-grouped-channel", min_os)


@pytest.mark.parametrize("bits", [0, 5, 7, 16])
def test_other_bit_widths_do_not_exist(bits: int) -> None:
    with pytest.raises(UserError, match="choose from 1, 2, 3, 4, 6, 8"):
        require_supported(bits, "per-tensor", "iOS18")
    with pytest.raises(UserError, match="choose from 1, 2, 3, 4, 6, 8"):
        PaletteSpec(bits)


def test_a_group_size_belongs_to_groups_alone() -> None:
    with pytest.raises(UserError, match="no meaning per tensor"):
        PaletteSpec(4, "per-tensor", 16)
    with pytest.raises(UserError, match="number of channels"):
        PaletteSpec(4, "per-grouped-channel")
    with pytest.raises(UserError, match="number of channels"):
        PaletteSpec(4, "per-grouped-channel", 0)


def test_the_check_loads_nothing_heavy() -> None:
    code = (
        "import sys, coreml_sd.compress.supported;"
        "print([n for n in ('torch', 'numba', 'numpy', 'coremltools') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
