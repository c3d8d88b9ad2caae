"""Known harmless noise is dropped, and everything else that the libraries say is passed on."""

from __future__ import annotations

import logging

import pytest
import tqdm

from coreml_sd.upstream.noise import quiet_conversion, quieten


def test_known_lines_are_dropped_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    quieten()
    logger = logging.getLogger("coremltools")
    with caplog.at_level(logging.WARNING, logger="coremltools"):
        logger.addHandler(caplog.handler)
        try:
            logger.warning("Failed to load _MLModelProxy")
            logger.warning("the program is not sound")
        finally:
            logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"the program is not sound"}


def test_bars_are_off_during_a_conversion_and_on_after_it() -> None:
    with quiet_conversion():
        assert tqdm.tqdm([1]).disable
    assert not tqdm.tqdm([1]).disable
