"""Tables keep their words whole at every width of a terminal."""

import io
import re

import pytest
from rich.console import Console

from coreml_sd.cli.tables import table

COLUMNS = ["file", "fp16", "stored", "as", "file dB", "seconds"]
ROWS = [
    ["UnetChunk1.mlpackage\nUnetChunk2.mlpackage", "1,719.1 MB", "646.3 MB", "6 bits", "62.1", "8"],
    ["VAEDecoder.mlpackage", "99.1 MB", "37.2 MB", "6/8 bits", "67.5", "120.4"],
]
TITLE = "sd15.bundle: executed here; evaluated from the file, not run by Core ML"


def shown(width: int, text_columns: int = 1) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(table(TITLE, COLUMNS, ROWS, text_columns=text_columns))
    return file.getvalue()


@pytest.mark.parametrize("text_columns", [1, 2])
@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 140])
def test_no_word_is_broken_and_none_is_lost(width: int, text_columns: int) -> None:
    told = shown(width, text_columns)
    assert max(map(len, told.splitlines())) <= width
    words = set(re.split(r"[\s│┃:]+", told))
    for cell in (TITLE, *COLUMNS, *(cell for row in ROWS for cell in row)):
        assert {word.rstrip(":") for word in cell.split()} <= words, (width, cell)


def test_a_wide_terminal_has_a_grid_and_a_narrow_one_paragraphs() -> None:
    assert "┃" in shown(100) and "┃" not in shown(40)
    assert "  stored: 646.3 MB" in shown(40)


def test_sentences_may_be_wrapped() -> None:
    rows = [["a comparison of one thing with another", "10.0 dB", "passed"]]
    columns = ["comparison", "figure", ""]
    kept, wrapped = (
        table("t", columns, rows, text_columns=1, sentences=sentences)
        for sentences in (False, True)
    )
    narrow = Console(width=40, file=io.StringIO(), record=True)
    narrow.print(kept)
    assert "figure: 10.0 dB" in narrow.export_text()
    narrow.print(wrapped)
    told = narrow.export_text()
    assert "figure:" not in told and "comparison" in told and "another" in told
