"""`coreml-sd doctor`."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys

import click

from coreml_sd import __version__

_SHOWN = (
    "torch",
    "coremltools",
    "numpy",
    "diffusers",
    "transformers",
    "safetensors",
    "huggingface-hub",
    "numba",
)


@click.command("doctor")
def command() -> None:
    """Show versions, the platform, and what can be run here. Exit status 1 outside the window."""
    from coreml_sd.cli.tables import table

    click.echo(
        f"coreml-sd {__version__}, Python {platform.python_version()}, {platform.platform()}"
    )
    windows = _windows()
    rows, outside = [], []
    for name in _SHOWN:
        held = _version(name)
        verdict = _verdict(held, windows.get(name, ""))
        if verdict != "ok":
            outside.append(f"{name} {held or 'missing'} (tested: {windows.get(name, 'any')})")
        rows.append([name, windows.get(name, ""), held or "missing", verdict])
    from coreml_sd.cli.console import results

    console = results()
    console.print(table("packages", ["package", "tested window", "installed", ""], rows))
    console.print(table("runtimes", ["runtime", "here"], _runtimes()))
    for line in outside:
        click.echo(f"outside the tested window: {line}; `uv pip install -c constraints.txt -e .`")
    sys.exit(1 if outside else 0)


def _windows() -> dict[str, str]:
    """Package -> version window, from our own metadata."""
    from packaging.requirements import Requirement

    requirements = [Requirement(text) for text in importlib.metadata.requires("coreml-sd") or ()]
    return {
        requirement.name.replace("_", "-"): str(requirement.specifier)
        for requirement in requirements
        if requirement.marker is None
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _verdict(held: str | None, window: str) -> str:
    from packaging.specifiers import SpecifierSet

    if held is None:
        return "missing"
    return "ok" if SpecifierSet(window).contains(held, prereleases=True) else "outside"


def _runtimes() -> list[list[str]]:
    mac = sys.platform == "darwin"
    return [
        ["torch", "yes (the source model)"],
        ["mil", "yes (evaluates the saved file; not Core ML)"],
        ["coreml", "yes" if mac else "no (needs macOS)"],
        ["litert", _litert()],
        ["swift", shutil.which("swift") or "no (no toolchain on the path)"],
    ]


def _litert() -> str:
    from coreml_sd.runtimes.litert.extra import INSTALL, available
    from coreml_sd.runtimes.litert.vulkan import why_no_gpu

    if not available():
        return f"no ({INSTALL})"
    lacking = why_no_gpu()
    return f"CPU yes, GPU no ({lacking})" if lacking else "CPU yes, GPU yes (`coreml-sd gpu`)"
