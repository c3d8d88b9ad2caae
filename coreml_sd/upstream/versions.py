"""Versions of installed packages."""

from __future__ import annotations

import importlib.metadata


def installed_version(package: str) -> tuple[int, int]:
    """Major and minor number of a package's installed version."""
    major, minor, *_ = importlib.metadata.version(package).split(".")
    return int(major), int(minor)
