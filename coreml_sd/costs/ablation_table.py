"""The figures of an ablation as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from coreml_sd.costs.ablation import Row

PARAMETER_COLUMNS = ("decision", "parameters", "change", "paper", "points apart")
MACS_COLUMNS = ("decision", "MACs", "change", "paper: more efficient by")
BYTES_COLUMNS = ("decision", "largest tensor", "fp16", "6 bits", "int8")


def parameter_cells(row: Row) -> list[str]:
    """One row in the order of `PARAMETER_COLUMNS`: changes against the row above, and ours less the
    paper's in points."""
    return [
        row.decision,
        f"{row.count.parameters / 1e6:.2f} M",
        _percent(row.change, 1),
        _percent(row.paper.parameters, 0),
        "" if row.difference is None else f"{100 * row.difference:+.1f}",
    ]


def macs_cells(row: Row) -> list[str]:
    """One row in the order of `MACS_COLUMNS`, a pass at batch 1."""
    efficiency = row.paper.efficiency
    return [
        row.decision,
        f"{row.count.macs / 1e9:.1f} G",
        _percent(row.macs_change, 1),
        "" if efficiency is None else f"{100 * efficiency:.0f} %",
    ]


def bytes_cells(row: Row) -> list[str]:
    """One row in the order of `BYTES_COLUMNS`: the largest tensor in fp16, and the weights."""
    count = row.count
    sizes = (count.largest_bytes, count.fp16_bytes, count.palette_bytes, count.int8_bytes)
    return [row.decision, *(f"{size / 1e6:,.1f} MB" for size in sizes)]


TABLES = (
    (PARAMETER_COLUMNS, parameter_cells),
    (MACS_COLUMNS, macs_cells),
    (BYTES_COLUMNS, bytes_cells),
)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for the documentation; figures to the right."""
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))


def _percent(part: float | None, digits: int) -> str:
    return "" if part is None else f"{100 * part:+.{digits}f} %".replace("-0.0 %", "+0.0 %")
