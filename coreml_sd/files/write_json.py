"""JSON files as people read them."""

from __future__ import annotations

import json
from pathlib import Path


def write_json(path: Path, value: object) -> None:
    """Write a value as an indented JSON file."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
