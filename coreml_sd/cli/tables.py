"""Tables for the terminal, whatever its width: no word is broken."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_BORDER, _MARGINS = 1, 3  # columns beside the cells: one at the left, and for each cell


class FittingTable:
    """A table where it fits, else one paragraph for each row."""

    def __init__(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        text_columns: int,
        sentences: bool = False,
    ) -> None:
        self.title, self.columns, self.rows = title, columns, rows
        self._text_columns, self._sentences = text_columns, sentences

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title, style="italic")
        if self._least_width() <= options.max_width:
            yield self._grid()
        else:
            yield from self._paragraphs()

    def _grid(self) -> Table:
        grid = Table()
        for index, column in enumerate(self.columns):
            grid.add_column(
                column,
                justify="left" if index < self._text_columns else "right",
                no_wrap=self._is_kept_whole(index),
            )
        for row in self.rows:
            grid.add_row(*row)
        return grid

    def _paragraphs(self) -> RenderResult:
        for row in self.rows:
            yield Text.from_markup(row[0], style="bold")
            for column, cell in zip(self.columns[1:], row[1:], strict=True):
                said = Text.from_markup(" ".join(cell.split("\n")))
                if said.plain:
                    yield Padding(Text(f"{column}: " if column else "") + said, (0, 0, 0, 2))

    def _is_kept_whole(self, index: int) -> bool:
        """Figures are not wrapped, nor is an only column of text that holds names."""
        names = self._text_columns == 1 and not self._sentences
        return index >= self._text_columns or names

    def _least_width(self) -> int:
        columns = [list(each) for each in zip(self.columns, *self.rows, strict=True)]
        widths = [
            max(
                len(piece)
                for cell in cells
                for piece in (
                    Text.from_markup(cell).plain.split("\n")
                    if self._is_kept_whole(index)
                    else [*Text.from_markup(cell).plain.split(), ""]
                )
            )
            for index, cells in enumerate(columns)
        ]
        return _BORDER + sum(width + _MARGINS for width in widths)


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text_columns: int = 2,
    sentences: bool = False,
) -> FittingTable:
    """A table whose first columns are text and the others are figures; `sentences` may be wrapped,
    an only column of names is not."""
    return FittingTable(title, columns, rows, text_columns, sentences)
