"""Resident memory over time under both memory policies, drawn."""

from __future__ import annotations

import io
from typing import Any

from coreml_sd.report.memory import MemoryReport

_TITLES = {"all-resident": "everything loaded", "pipelined": "pipelined"}
_COLOURS = {"all-resident": "#a8a8a8", "pipelined": "#2f6fdb"}


def plot_memory(report: MemoryReport) -> bytes:
    """A PNG: the curve of each policy, and below it what `pipelined` holds when."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.6), dpi=110, layout="constrained")
    curves, rows = figure.subplots(2, sharex=True, height_ratios=[3.2, 1])
    for policy, log in report.logs.items():
        seconds, resident = zip(*log["samples"], strict=True)
        megabytes = [size / 1e6 for size in resident]
        label = f"{_TITLES[policy]}: peak {max(megabytes):.0f} MB"
        curves.plot(seconds, megabytes, color=_COLOURS[policy], label=label)
    bound = report.bound / 1e6
    text = f"UNet + the larger of the others + activations: {bound:.0f} MB"
    curves.axhline(bound, color="#888", linestyle=":", linewidth=1, label=text)
    curves.set_ylabel("resident memory\nabove the start, MB")
    curves.set_ylim(0, 1.4 * max(bound, report.peak("all-resident") / 1e6))
    curves.legend(loc="upper left", fontsize=8, frameon=False)
    _rows(rows, report.logs["pipelined"]["events"], report.denoiser)
    for axes in (curves, rows):
        axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _rows(axes: Any, events: list[dict[str, Any]], denoiser: str) -> None:
    """One bar for each network from its load to its end, pale while it loads; the steps as a
    band."""
    components = ("vae_decoder", denoiser, "text_encoder")  # from the lowest row up
    steps = [event["seconds"] for event in events if event["kind"] == "step"]
    axes.axvspan(_last(events, "loaded", denoiser), steps[-1], color="#f0b429", alpha=0.25)
    axes.text(steps[-1], len(components) - 0.5, " steps", va="top", fontsize=8, color="#946c00")
    for row, name in enumerate(components):
        loading, loaded = _last(events, "loading", name), _last(events, "loaded", name)
        freed = _last(events, "freed", name) or _last(events, "end", "")
        axes.barh(row, loaded - loading, left=loading, color=_COLOURS["pipelined"], alpha=0.35)
        axes.barh(row, freed - loaded, left=loaded, color=_COLOURS["pipelined"])
    axes.set_yticks(range(len(components)), components, fontsize=8)
    axes.set_xlabel("seconds; pale: loading")


def _last(events: list[dict[str, Any]], kind: str, name: str) -> float:
    """When something last happened; 0 if it never did."""
    times = [e["seconds"] for e in events if (e["kind"], e["name"]) == (kind, name)]
    return float(times[-1]) if times else 0.0
