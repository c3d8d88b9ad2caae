"""The table of `coreml-sd convert --dry-run`: what a conversion will take."""

from __future__ import annotations

from coreml_sd.cli.console import clock, gigabytes, megabytes
from coreml_sd.cli.tables import FittingTable, table
from coreml_sd.conversion.prediction.disk import weight_bytes
from coreml_sd.conversion.prediction.predict import Prediction
from coreml_sd.costs.network_size import network_size
from coreml_sd.targets.plan import Plan


def predicted_table(plan: Plan, prediction: Prediction, verify: bool) -> FittingTable:
    """One row for each component, and the whole; components that are converted beside each other
    take less than their sum."""
    rows = []
    for component in plan.components:
        size = network_size(plan.model.folder, component)
        rows.append(
            [
                component.name,
                clock(prediction.seconds_of(component.name)),
                gigabytes(prediction.memory_of(component.name)),
                megabytes(weight_bytes(plan, component.name, size)),
            ]
        )
    whole = f"all, {len(prediction.shares)} processes" if len(prediction.shares) > 1 else "all"
    memory, disk = gigabytes(prediction.memory), megabytes(prediction.disk)
    rows.append([whole, clock(prediction.seconds), memory, disk])
    title = f"expected here and now, {'every' if verify else 'no'} file executed"
    return table(title, ["component", "time", "memory", "disk"], rows, text_columns=1)
