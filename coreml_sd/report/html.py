"""The parity report as one self-contained HTML file."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coreml_sd import __version__
from coreml_sd.generation.picture import png_bytes
from coreml_sd.report.memory_plot import plot_memory
from coreml_sd.report.parity_report import AMPLIFICATION, ParityReport

_TEMPLATES = Path(__file__).parent / "templates"


def render(report: ParityReport) -> str:
    """The report as HTML with pictures and styles inside."""
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=select_autoescape(default=True)
    )
    environment.filters["png"] = _data_url
    environment.filters["mb"] = lambda size: f"{size / 1e6:,.2f} MB"
    return environment.get_template("parity.html").render(
        report=report,
        manifest=report.bundle.manifest,
        labels=sorted(
            {entry.label for entry in report.components} | {r.label for r in report.runtimes}
        ),
        sizes=_sizes(report),
        picture_costs=report.picture_costs,
        memory_plot=_png_url(plot_memory(report.memory)) if report.memory else None,
        palettes=_palettes(report),
        amplification=AMPLIFICATION,
        float_inf=math.inf,
        version=__version__,
    )


def _data_url(pixels: NDArray[np.uint8]) -> str:
    return _png_url(png_bytes(pixels))


def _png_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _sizes(report: ParityReport) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{name}, {target}",
            "files": [f["path"] for f in entry["files"] if f["target"] == target],
            "before": entry["source_bytes"],
            "after": sum(f["weight_bytes"] for f in entry["files"] if f["target"] == target),
        }
        for name, entry in report.bundle.components.items()
        for target in report.bundle.targets
    ]


def _palettes(report: ParityReport) -> list[dict[str, Any]]:
    """The ten weights that lost most, worst first."""
    weights = [
        {"component": name, **weight}
        for name, entry in report.bundle.components.items()
        for weight in entry["weights"]
        if weight["snr_db"] is not None
    ]
    return sorted(weights, key=lambda weight: float(weight["snr_db"]))[:10]
