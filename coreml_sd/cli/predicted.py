"""The table of `coreml-sd convert --dry-run`: what a conversion will take."""

from __future__ import annotations

from coreml_sd.cli.console import clock, gigabytes, megabytes
from coreml_sd.cli.tables import FittingTable, table
from coreml_sd.conversion.planned import PlannedConversion


def predicted_table(planned: PlannedConversion) -> FittingTable:
    """One row for each component, and the whole; components that are converted beside each other
    take less than their sum."""
    prediction = planned.prediction
    whole = f"all, {len(prediction.shares)} processes" if len(prediction.shares) > 1 else "all"
    parts = {component.name: prediction.of(component.name) for component in planned.plan.components}
    rows = [
        [name, clock(part.seconds), gigabytes(part.memory), megabytes(part.disk)]
        for name, part in {**parts, whole: prediction}.items()
    ]
    title = f"expected here and now, {'every' if planned.verify else 'no'} file executed"
    return table(title, ["component", "time", "memory", "disk"], rows, text_columns=1)
