#!/usr/bin/env python
"""Write the counted tables of docs/mobilediffusion.md, or check that they are fresh.

scripts/mobilediffusion_tables.py            # write
scripts/mobilediffusion_tables.py --check    # exit 1 where the page says something else
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.bench.document import replaced

if TYPE_CHECKING:
    from coreml_sd.costs.ablation import Total

PAGE = ROOT / "docs" / "mobilediffusion.md"
MARKER = "scripts/mobilediffusion_tables.py"
# Millions of parameters, and G MACs of the denoiser; None where the paper's are not known.
PAPER: dict[str, dict[str, tuple[float | None, float | None]]] = {
    "md": {"unet": (386.0, 182.0), "vae_decoder": (9.8, None), "all three": (520.0, None)},
    "md-lite": {"unet": (278.0, 153.0), "vae_decoder": (9.8, None), "all three": (None, None)},
}
STEPS = ((1, 1), (8, 1), (20, 2))  # of a picture, and rows of the UNet's batch


def counted() -> str:
    """The tables in Markdown."""
    from coreml_sd.config import ConversionConfig
    from coreml_sd.costs.ablation import Total, ablation, totals
    from coreml_sd.costs.ablation_table import TABLES, markdown
    from coreml_sd.models.open_model import open_model

    models = {name: open_model(ConversionConfig(model=name)) for name in PAPER}
    parts = {name: totals(model) for name, model in models.items()}
    for found in parts.values():
        found.append(
            Total("all three", sum(t.parameters for t in found), sum(t.macs for t in found))
        )
    lines = ["### Totals", "", markdown(*_totals(parts)), ""]
    lines += ["### MACs of a picture", "", markdown(*_pictures(parts)), ""]
    rows = ablation(models["md"])
    for network in dict.fromkeys(row.network for row in rows):
        lines += [f"### `md`, {network}, one decision after the other", ""]
        for columns, cells in TABLES:
            shown = [cells(row) for row in rows if row.network == network]
            lines += [markdown(columns, shown), ""]
    return "\n".join(lines)


def _totals(parts: dict[str, list[Total]]) -> tuple[tuple[str, ...], list[list[str]]]:
    columns = ("preset", "component", "parameters", "paper", "apart", "MACs", "paper", "apart")
    rows = []
    for name, found in parts.items():
        for total in found:
            parameters, macs = PAPER[name].get(total.component, (None, None))
            rows.append(
                [
                    f"`{name}`",
                    total.component,
                    f"{total.parameters / 1e6:.2f} M",
                    *_against(total.parameters / 1e6, parameters, "M"),
                    f"{total.macs / 1e9:.1f} G",
                    *_against(total.macs / 1e9, macs, "G"),
                ]
            )
    return columns, rows


def _against(ours: float, paper: float | None, unit: str) -> list[str]:
    if paper is None:
        return ["", ""]
    return [f"{paper:g} {unit}", f"{100 * (ours / paper - 1):+.1f} %"]


def _pictures(parts: dict[str, list[Total]]) -> tuple[tuple[str, ...], list[list[str]]]:
    columns = ("preset", *(f"{n} step{'s' * (n > 1)}, batch {batch}" for n, batch in STEPS))
    rows = []
    for name, found in parts.items():
        sums = [_picture(found, steps, batch) for steps, batch in STEPS]
        rows.append([f"`{name}`", *(f"{each / 1e9:,.0f} G" for each in sums)])
    return columns, rows


def _picture(found: list[Total], steps: int, batch: int) -> int:
    """MACs of a picture; those of the UNet's pass are of one row."""
    from coreml_sd.costs.picture import PartCosts, picture_costs

    parts = {
        total.component: PartCosts(total.macs * rows, 0, 0, rows)
        for total in found
        for rows in [batch if total.component == "unet" else 1]
    }
    return next(costs.macs for costs in picture_costs(parts) if costs.steps == steps)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    fresh = replaced(page, MARKER, f"\n{counted()}")
    if fresh == page:
        return 0
    if check:
        print(f"{PAGE.name} is stale; run scripts/mobilediffusion_tables.py", file=sys.stderr)
        return 1
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
