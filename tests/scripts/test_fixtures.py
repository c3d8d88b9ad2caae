"""The golden vectors are what the original libraries give today."""

from __future__ import annotations

import pytest

from scripts.fixtures import Unavailable
from scripts.make_fixtures import FOLDER, makers, text_of


@pytest.mark.parametrize("name", sorted(makers()))
def test_fixture_is_fresh(name: str) -> None:
    try:
        text = text_of(makers()[name])
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == text
